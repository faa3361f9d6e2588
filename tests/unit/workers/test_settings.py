from __future__ import annotations

import pytest

from shared.errors import SettingsError
from shared.settings import Environment
from workers.settings import WorkerSettings

REDIS = {"BATON_REDIS_URL": "redis://r"}


def read(**environ: str) -> WorkerSettings:
    return WorkerSettings.from_environment(Environment({**REDIS, **environ}))


def test_defaults() -> None:
    settings = read()
    assert settings.model == ".baton/models/SmolLM2-135M-Instruct"
    assert settings.model_name == "SmolLM2-135M-Instruct"
    assert (settings.broker_url, settings.slots, settings.device) == ("redis://r", 32, "auto")
    assert settings.name.endswith("-auto")


def test_what_is_set_is_taken() -> None:
    settings = read(
        BATON_MODEL="org/Model",
        BATON_WORKER_NAME="w1",
        BATON_WORKER_DEVICE="cuda:1",
        BATON_BROKER_URL="redis://b",
        BATON_MAX_SLOTS="4",
        BATON_SPECULATION="off",
    )
    assert (settings.model, settings.model_name, settings.name) == ("org/Model", "Model", "w1")
    assert (settings.device, settings.broker_url, settings.slots) == ("cuda:1", "redis://b", 4)
    assert settings.speculation == "off"
    assert read(BATON_MODEL="org/Model", BATON_MODEL_NAME="m").model_name == "m"


@pytest.mark.parametrize(
    "environ",
    [
        {"BATON_REDIS_URL": ""},
        {"BATON_WORKER_DEVICE": "cpu,cpu"},
        {"BATON_MAX_SLOTS": "0"},
        {"BATON_SPECULATION": "on"},
    ],
)
def test_an_unusable_value_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=next(iter(environ))):
        read(**environ)


def test_a_worker_may_have_several_gpus() -> None:
    settings = read(BATON_WORKER_DEVICE="cuda:0+cuda:1")
    assert settings.device == "cuda:0+cuda:1"
    assert settings.name.endswith("-cuda0-cuda1")

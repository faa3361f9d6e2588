"""One replica's settings: unusable ones stop the start with the variable's name."""

from __future__ import annotations

import pytest

from api.settings import ApiSettings
from shared.errors import SettingsError
from shared.settings import Environment

URL = {"BATON_REDIS_URL": "unix:///r.sock"}


def settings(**variables: str) -> ApiSettings:
    return ApiSettings.from_environment(Environment({**URL, **variables}))


def test_defaults() -> None:
    assert settings() == ApiSettings("unix:///r.sock", "unix:///r.sock", "SmolLM2-135M-Instruct")


def test_a_model_is_named_by_its_last_part() -> None:
    assert settings(BATON_MODEL="/models/tiny/").model == "tiny"
    assert settings(BATON_MODEL="org/tiny", BATON_MODEL_NAME="other").model == "other"


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"BATON_REDIS_URL": ""}, "BATON_REDIS_URL"),
        ({"BATON_PORT": "0"}, "BATON_PORT"),
        ({"BATON_PING_S": "-1"}, "BATON_PING_S"),
        ({"BATON_HOST": "0.0.0.0"}, "BATON_API_KEYS"),
        ({"BATON_PROT": "1"}, "BATON_PROT"),
        ({"BATON_API_KEYS": "schlüssel"}, "BATON_API_KEYS"),
        ({"BATON_ADMIN_KEYS": "a\tb"}, "BATON_ADMIN_KEYS"),
        ({"BATON_STRICT_PARAMETERS": "yes"}, "BATON_STRICT_PARAMETERS"),
    ],
)
def test_what_cannot_be_used_is_named(variables: dict[str, str], name: str) -> None:
    with pytest.raises(SettingsError, match=name):
        settings(**variables)


def test_a_public_address_needs_keys() -> None:
    assert settings(BATON_HOST="0.0.0.0", BATON_API_KEYS="a, b").api_keys == ("a", "b")
    assert settings(BATON_HOST="0.0.0.0", BATON_ADMIN_KEYS="a").admin_keys == ("a",)
    assert settings(BATON_HOST="::1").host == "::1"


def test_parameters_and_origins() -> None:
    assert not settings().strict_parameters and settings(BATON_STRICT_PARAMETERS="true").strict_parameters
    assert settings(BATON_CORS_ORIGINS="https://a.example, *").cors_origins == ("https://a.example", "*")

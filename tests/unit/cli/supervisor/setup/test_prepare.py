from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from cli.errors import StartRefused
from cli.supervisor.setup import prepare as module
from cli.supervisor.setup.devices import Gpu
from cli.supervisor.setup.home import Home
from cli.supervisor.setup.prepare import Prepared, prepare
from cli.supervisor.setup.settings import UpSettings
from tests.free_port import free_port


@pytest.fixture(autouse=True)
def one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "query_gpus", lambda: [Gpu(0, 600 << 20)])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    return home


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "my-model"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"dtype": "bfloat16"}))
    (directory / "model.safetensors").write_bytes(b"x")
    return directory


def prepared(home: Home, model: str, **variables: str) -> Prepared:
    environ = {"BATON_MODEL": model, "BATON_PORT": str(free_port()), "BATON_DEVICES": "cpu", **variables}
    environ.setdefault("BATON_FLOWER_PORT", str(free_port()))
    return prepare(UpSettings.read(environ), home, environ)


def test_all_parts_know_redis_the_model_and_the_home(home: Home, model: Path) -> None:
    found = prepared(home, str(model))
    assert [plan.id for plan in found.plans] == ["redis", "api-1", "worker-1", "flower"]
    assert (found.model_name, found.devices, found.is_key_needed) == ("my-model", ("cpu",), False)
    assert found.redis_url == found.broker_url == f"unix://{home.redis}/redis.sock"
    for plan in found.plans[1:]:
        assert plan.environ["BATON_REDIS_URL"] == found.redis_url
        assert plan.environ["BATON_MODEL"] == str(model)
        assert plan.environ["BATON_HOME"] == str(home.path)


def test_a_redis_of_ones_own(home: Home, model: Path) -> None:
    found = prepared(home, str(model), BATON_REDIS_URL="redis://r", BATON_BROKER_URL="redis://b")
    assert [plan.id for plan in found.plans] == ["api-1", "worker-1", "flower"]
    assert (found.redis_url, found.broker_url) == ("redis://r", "redis://b")


@pytest.mark.parametrize("name", ["BATON_REDIS_URL", "BATON_BROKER_URL"])
def test_a_socket_that_is_not_there_is_refused(home: Home, model: Path, tmp_path: Path, name: str) -> None:
    urls = {"BATON_REDIS_URL": "redis://r", name: f"unix://{tmp_path}/none.sock?db=1"}
    with pytest.raises(StartRefused, match=f"{name}: there is no socket {tmp_path}/none.sock"):
        prepared(home, str(model), **urls)


def test_a_hub_id_is_passed_on(home: Home) -> None:
    found = prepared(home, "org/name", BATON_API_KEYS="k")
    assert found.plans[1].environ["BATON_MODEL"] == "org/name"
    assert (found.model_name, found.is_key_needed) == ("name", True)


def test_a_relative_model_directory_means_the_same_to_every_part(
    home: Home, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    assert prepared(home, "my-model").plans[1].environ["BATON_MODEL"] == str(model)


def test_the_default_model_that_is_there_is_not_fetched(home: Home, model: Path) -> None:
    model.rename(home.models / "SmolLM2-135M-Instruct")
    assert prepared(home, "").model_name == "SmolLM2-135M-Instruct"


def test_what_does_not_allow_a_start(home: Home, model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        with pytest.raises(StartRefused, match=f"port {port} .BATON_FLOWER_PORT"):
            prepared(home, str(model), BATON_FLOWER_PORT=port)
    with pytest.raises(StartRefused, match="not enough memory on cuda:0: 2 workers"):
        prepared(home, str(model), BATON_DEVICES="cuda:0,cuda:0")
    (model / "config.json").unlink()
    with pytest.raises(StartRefused, match=r"no config\.json"):
        prepared(home, str(model))


def test_the_models_name_is_shown_in_utf_8(home: Home, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python decodes the environment by the locale, here GBK."""
    monkeypatch.setattr("os.fsencode", lambda text: os.fspath(text).encode("gbk", "surrogateescape"))
    name = "小模型".encode().decode("gbk", "surrogateescape")
    environ = {"BATON_MODEL": str(model), "BATON_MODEL_NAME": name, "BATON_DEVICES": "cpu"}
    environ |= {"BATON_PORT": str(free_port()), "BATON_FLOWER_PORT": str(free_port())}
    assert prepare(UpSettings.read(environ), home, environ).model_name == "小模型"

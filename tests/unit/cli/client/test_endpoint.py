from __future__ import annotations

from pathlib import Path

from cli.client.endpoint import Endpoint, find_endpoint
from cli.supervisor.setup.home import Home
from cli.supervisor.state_file import ChildState, StateFile


def test_options_come_first() -> None:
    found = find_endpoint(["http://a/v1", "http://b/"], "key", {"OPENAI_API_KEY": "other"})
    assert found == Endpoint(("http://a", "http://b"), "key")


def test_then_the_baton_up_of_this_home(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    urls = [f"http://127.0.0.1:{port}" for port in (1, 2)]
    parts = [ChildState("api", f"api-{url}", 1, url, None, "ready") for url in urls]
    StateFile(home.path).write([ChildState("redis", "redis", 1, "unix:///x", None, "ready"), *parts])
    environ = {"BATON_HOME": str(tmp_path), "BATON_PORT": "9"}
    with home.locked():
        assert find_endpoint(None, None, environ).urls == tuple(urls)
    assert find_endpoint(None, None, environ).urls == ("http://127.0.0.1:9",)


def test_keys() -> None:
    home = {"BATON_HOME": "/nonexistent"}
    assert find_endpoint(None, None, home) == Endpoint(("http://127.0.0.1:8000",), None)
    assert find_endpoint(None, None, {**home, "OPENAI_API_KEY": "o"}).api_key == "o"
    assert find_endpoint(None, None, {**home, "OPENAI_API_KEY": "o", "BATON_API_KEYS": "a,b"}).api_key == "a"

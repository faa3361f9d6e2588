from __future__ import annotations

from pathlib import Path

import pytest

from cli.supervisor.display.banner import banner
from cli.supervisor.plan import plan_children
from cli.supervisor.setup.flower_password import FlowerAuth
from cli.supervisor.setup.home import Home
from cli.supervisor.setup.prepare import Prepared
from cli.supervisor.setup.settings import UpSettings


def lines(tmp_path: Path, auth: FlowerAuth, *, is_key_needed: bool = False) -> str:
    settings = UpSettings.read({"BATON_API_REPLICAS": "2"})
    plans = plan_children(settings, ("cpu", "cpu"), auth.text, {"BATON_HOME": str(tmp_path)})
    prepared = Prepared(tuple(plans), "unix:///r", "unix:///r", auth, "m", ("cpu", "cpu"), is_key_needed)
    return "\n".join(banner(prepared, Home(tmp_path)))


def test_tells_where_everything_is(tmp_path: Path) -> None:
    text = lines(tmp_path, FlowerAuth("baton:word", is_new=True))
    for part in (
        "Baton serves m on cpu, cpu",
        "http://127.0.0.1:8000/v1",
        "http://127.0.0.1:8001/v1",
        "http://127.0.0.1:5555",
        "password word",
        "curl -N http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type",
    ):
        assert part in text


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_password_is_shown_only_when_it_is_new(tmp_path: Path, is_kept: bool) -> None:
    if is_kept:
        (tmp_path / "flower.password").touch()
    assert "password word" not in lines(tmp_path, FlowerAuth("baton:word", is_new=False))


def test_a_key_is_asked_for_not_shown(tmp_path: Path) -> None:
    assert "Bearer <key>" in lines(tmp_path, FlowerAuth("a:b", is_new=False), is_key_needed=True)

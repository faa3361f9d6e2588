"""An environment is created once for the same pins. A failure includes pip's output."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench.peers.peer import PeerUnavailable
from bench.peers.rivals import virtual_env
from bench.peers.rivals.virtual_env import VirtualEnvs


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The commands that were run instead of venv and pip. Pins are read from `tmp_path`."""
    run: list[list[str]] = []

    def record(command: list[str], environ: object = None) -> None:
        run.append([*command, *([] if environ is None else [str(environ)])])
        if command[1:3] == ["-m", "venv"]:
            (Path(command[3]) / "bin").mkdir(parents=True)

    monkeypatch.setattr(virtual_env, "_run", record)
    monkeypatch.setattr(virtual_env, "_REQUIREMENTS", tmp_path)
    (tmp_path / "a.txt").write_text("one==1\n")
    return run


def test_an_environment_is_made_once_for_the_same_pins(commands: list[list[str]], tmp_path: Path) -> None:
    venvs = VirtualEnvs(tmp_path / "venvs", "https://torch.example")
    made = venvs.make("a", unwanted=("bad",), environ={"FLAG": "1"})
    assert made == tmp_path / "venvs" / "a" / "bin"
    create, install, uninstall = commands
    assert create[1:] == ["-m", "venv", str(made.parent)]
    index = ["--extra-index-url", "https://torch.example"]
    assert install[-6:] == ["install", *index, "-r", str(tmp_path / "a.txt"), "{'FLAG': '1'}"]
    assert uninstall[-3:] == ["uninstall", "-y", "bad"]
    venvs.make("a", unwanted=("bad",), environ={"FLAG": "1"})
    assert len(commands) == 3
    (tmp_path / "a.txt").write_text("one==2\n")
    venvs.make("a", unwanted=("bad",), environ={"FLAG": "1"})
    assert len(commands) == 6


def test_an_installation_that_failed_is_no_environment(
    commands: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venvs = VirtualEnvs(tmp_path / "venvs", None)
    record = virtual_env._run

    def fail(command: list[str], environ: object = None) -> None:
        record(command, environ)  # type: ignore[arg-type]
        if "install" in command:
            raise PeerUnavailable("no such version")

    monkeypatch.setattr(virtual_env, "_run", fail)
    for _ in range(2):
        with pytest.raises(PeerUnavailable, match="no such version"):
            venvs.make("a")
    assert [command[2] for command in commands if command[1] == "-m"] == ["venv", "venv"]


def test_what_the_command_said_is_told() -> None:
    code = "print('first'); import sys; sys.exit('no such version')"
    with pytest.raises(PeerUnavailable, match="failed: first / no such version"):
        virtual_env._run([sys.executable, "-c", code])

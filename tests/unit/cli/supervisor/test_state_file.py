from __future__ import annotations

from pathlib import Path

import pytest

from cli.supervisor.state_file import ChildState, StateFile
from shared.errors import DecodeError

PARTS = [
    ChildState("redis", "redis", 7, "unix:///x", None, "ready"),
    ChildState("worker", "worker-1", None, None, "cuda:0", "restarting"),
]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path


def test_what_is_written_is_read(home: Path) -> None:
    StateFile(home).write([])
    StateFile(home).write(PARTS)
    assert StateFile(home).read() == PARTS
    assert [path.name for path in (home / "run").iterdir()] == ["up.json"]


def test_nothing_was_started(home: Path) -> None:
    assert StateFile(home).read() == []


@pytest.mark.parametrize("text", ["", "[1]", '[{"role": "redis"}]', '[{"role": "cook"}]', "3"])
def test_something_else_is_a_decode_error(home: Path, text: str) -> None:
    (home / "run" / "up.json").write_text(text)
    with pytest.raises(DecodeError):
        StateFile(home).read()

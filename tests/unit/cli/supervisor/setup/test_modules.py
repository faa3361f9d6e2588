from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = "from cli.supervisor.setup.modules import check_modules; check_modules()"


def check(python_path: Path) -> str:
    """What the check says in a new process, or an empty string."""
    command = [sys.executable, "-P", "-c", _PROGRAM]
    environ = {**os.environ, "PYTHONPATH": str(python_path)}
    done = subprocess.run(command, env=environ, capture_output=True, encoding="utf-8")
    return done.stderr.strip().rpartition("\n")[2]


def test_baton_is_found(tmp_path: Path) -> None:
    assert check(tmp_path) == ""


@pytest.mark.parametrize("path", ["api.py", "workers/__init__.py"])
def test_a_module_in_the_place_of_ours_is_named(tmp_path: Path, path: str) -> None:
    other = tmp_path / path
    other.parent.mkdir(exist_ok=True)
    other.touch()
    assert str(other) in check(tmp_path)
    assert "remove the other one from PYTHONPATH" in check(tmp_path)

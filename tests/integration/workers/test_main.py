"""How a worker that cannot start says so."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.runtime.exit_codes import EX_CONFIG


def run(**settings: str) -> tuple[int, list[str]]:
    """Exit status, and what it wrote to stderr."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
    done = subprocess.run(
        [sys.executable, "-m", "workers.main"],
        env={**environ, "BATON_REDIS_URL": "redis://localhost:1", **settings},
        capture_output=True,
        text=True,
        timeout=50,
    )
    return done.returncode, done.stderr.splitlines()


def test_an_unknown_setting_is_one_line() -> None:
    assert run(BATON_MAX_SLOT="3") == (
        EX_CONFIG,
        ["BATON_MAX_SLOT is not a setting; did you mean BATON_MAX_SLOTS?"],
    )


@pytest.mark.slow
def test_a_directory_without_a_model_is_one_line(tmp_path: Path) -> None:
    status, lines = run(BATON_MODEL=str(tmp_path), BATON_WORKER_DEVICE="cpu")
    assert (status, lines) == (EX_CONFIG, [f"{tmp_path} has no config.json"])

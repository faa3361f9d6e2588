"""Fail points: read from a setting, and of no effect without it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from shared.errors import SettingsError
from shared.runtime.failpoint import NAMES, failpoint, read_failpoint
from shared.settings import FAILPOINT, Environment


def test_without_a_setting_nothing_happens() -> None:
    for name in NAMES:
        failpoint(name)


def test_a_process_dies_at_the_nth_pass() -> None:
    passes = (
        "from shared.runtime.failpoint import failpoint\n"
        "for i in range(9): print(i, flush=True); failpoint('claimed')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", passes], env={"BATON_FAILPOINT": "claimed:3"}, capture_output=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, b"0\n1\n2\n")


def test_reading() -> None:
    assert read_failpoint("") is None
    assert read_failpoint("ended") == ("ended", 1)
    assert read_failpoint("ended:4") == ("ended", 4)
    for wrong in ("nowhere", "ended:0", "ended:x", "ended:-1"):
        with pytest.raises(SettingsError, match="BATON_FAILPOINT"):
            Environment({"BATON_FAILPOINT": wrong}).read(FAILPOINT)

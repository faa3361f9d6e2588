"""A process that was started with `ends_with_parent` dies with its parent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cli.supervisor.parent_death import ends_with_parent

_PARENT = """
import subprocess, sys, time
from cli.supervisor.parent_death import ends_with_parent
child = subprocess.Popen(ends_with_parent(["sleep", "60"]), start_new_session=True)
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has PR_SET_PDEATHSIG")
def test_it_dies_with_its_parent() -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        deadline = time.monotonic() + 10
        while child.name() != "sleep":
            assert time.monotonic() < deadline, "the command is not run"
            time.sleep(0.01)
        parent.kill()
        gone, _ = psutil.wait_procs([child], timeout=10)
        assert gone == [child]


def test_it_does_not_start_when_the_parent_is_gone_already(tmp_path: Path) -> None:
    command = ends_with_parent(["touch", str(tmp_path / "touched")])
    command[command.index(str(os.getpid()))] = "1"
    assert subprocess.run(command, capture_output=True, timeout=10).returncode != 0
    assert not (tmp_path / "touched").exists()


def test_a_command_that_is_not_there_is_told() -> None:
    done = subprocess.run(ends_with_parent(["/no/such"]), capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stderr) == (1, "/no/such: No such file or directory\n")

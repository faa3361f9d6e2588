"""After a server was stopped, none of its processes is left."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from subprocess import PIPE

import pytest

from bench.peers.accounting import running_processes
from bench.peers.process_group import ProcessGroup

#: A server that starts another one, in a session of its own, which hears no Ctrl-C.
_PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; print(1, flush=True); sys.stdin.read()"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
sys.stderr.write("on stderr\\n")
try:
    print(child.pid, os.environ.get("BATON_PORT"), os.environ["EXTRA"], flush=True)
    sys.stdin.read()
except KeyboardInterrupt:
    os._exit(0)
"""


def test_all_processes_end_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_PORT", "9000")
    log = tmp_path / "log"
    group = ProcessGroup([sys.executable, "-c", _PARENT], {"EXTRA": "yes"}, log, stdin=PIPE, stdout=PIPE)
    child, port, extra = group.pipes[1].readline().decode().split()
    assert (port, extra) == ("None", "yes")
    assert not group.has_ended and group.peak_mib() > 0
    assert group.usage().tree_s > 0
    group.stop()
    assert group.has_ended and log.read_text().startswith("on stderr")
    assert group.pid not in {one.pid for one in running_processes()}
    # Its parent has ended, so it may stay for a moment, and as a zombie until init reaps it.
    deadline = time.monotonic() + 60
    while _state(int(child)) != "Z" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _state(int(child)) == "Z"


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(") ")[2][0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def test_output_goes_to_the_log_unless_it_is_asked_for(tmp_path: Path) -> None:
    group = ProcessGroup([sys.executable, "-c", "print('said')"], dict(os.environ), tmp_path / "log")
    deadline = time.monotonic() + 60
    while not group.has_ended and time.monotonic() < deadline:
        time.sleep(0.01)
    group.stop()
    assert (tmp_path / "log").read_text() == "said\n"

"""A newcomer's walk through the command line, with a whole system behind it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import pytest

from tests.acceptance.system import System
from tests.acceptance.test_chat import PROMPT
from tests.tiny_chat_model import reference_answer

pytestmark = pytest.mark.timeout(480)
WAIT_S = 120
#: Tokens of an answer that lasts until other commands have started.
LONG = 2000
GREEDY = ("--temperature", "0", "--max-tokens")


class Baton:
    """The command of one home."""

    def __init__(self, system: System) -> None:
        self._environ = {"PATH": os.environ["PATH"], "BATON_HOME": str(system.home)}

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "cli.main", *arguments],
            env=self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # `communicate` knows nothing of a buffer that `begin` has filled
        )

    def __call__(self, *arguments: str) -> str:
        """What it prints; fails unless it ends with 0."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, err.decode()
        return out.decode()

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))


def begin(stream: IO[bytes] | None, num: int = 40) -> bytes:
    """The first bytes of what a command prints."""
    assert stream is not None
    return stream.read(num)


def test_chat_submit_poll_watch_kill_drain_start_stop(own_system: System, tiny_model: Path) -> None:
    own_system.start()
    baton = Baton(own_system)
    assert "fail" not in {finding["level"] for finding in baton.json("doctor")}

    assert baton("chat", PROMPT, *GREEDY, "20") == reference_answer(tiny_model, PROMPT, 20) + "\n"

    answer = reference_answer(tiny_model, PROMPT, LONG)
    victims = [own_system.part_pid(part) for part in ("worker-1", "api-1")]
    job_id = baton("submit", PROMPT, *GREEDY, str(LONG)).strip()
    polling = baton.start("watch", "--poll", job_id)
    seen = begin(polling.stdout)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    rest, told = polling.communicate(timeout=WAIT_S)
    assert (polling.returncode, seen + rest) == (0, f"{answer}\n".encode()), told
    assert b"[resumed by worker-1]" in told

    before = own_system.part_pid("worker-1")
    job_id = baton("submit", PROMPT, *GREEDY, str(LONG)).strip()
    watching = baton.start("watch", job_id)
    seen = begin(watching.stdout)
    assert baton("workers", "drain", "worker-1", "--wait") == "worker-1 drained\n"
    own_system.wait_until(lambda: state_of_worker(baton) == "drained", WAIT_S)
    assert baton.json("workers") == []
    assert [job["status"] for job in baton.json("jobs", "--limit", "1")] == ["queued"]
    baton("workers", "start", "worker-1")
    rest, told = watching.communicate(timeout=WAIT_S)
    assert (watching.returncode, seen + rest) == (0, f"{answer}\n".encode()), told
    assert b"[requeued (drain)]" in told and own_system.part_pid("worker-1") != before

    own_system.stop()
    assert own_system.processes() == []


def state_of_worker(baton: Baton) -> str:
    state: str = next(part["state"] for part in baton.json("ps") if part["id"] == "worker-1")
    return state

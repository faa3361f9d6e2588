"""Processes die; clients' output goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.acceptance.sse import Answer, blocks
from tests.acceptance.system import System
from tests.acceptance.test_chat import PROMPT, body, submit, terminal_events, wait_for, whole
from tests.tiny_chat_model import reference_answer

pytestmark = pytest.mark.timeout(240)
LONG = 1000


def test_a_killed_worker_loses_no_token(system: System, tiny_model: Path) -> None:
    # Looked up before, as that may take as long as the answer.
    worker = system.part_pid("worker-1")
    killed = False
    found = []
    with system.http() as http:
        with http.stream("POST", "/v1/chat/completions", json=body(max_tokens=LONG, stream=True)) as response:
            for block in blocks(response):
                found.append(block)
                if len(found) == 10:
                    os.kill(worker, signal.SIGKILL)
                    killed = True
        answer = Answer.of(found)
        assert killed and answer.is_done
        assert answer.texts == {0: reference_answer(tiny_model, PROMPT, LONG)}
        job = http.get(f"/v1/jobs/{found[0].json['id'].replace('chatcmpl-', 'job_')}").json()
        assert (job["attempts"], job["worker"]) == (2, "worker-1")
        assert terminal_events(http, job["id"]) == ["job.incomplete"]


def test_everything_goes_on_after_a_restart(own_system: System, tiny_model: Path) -> None:
    own_system.start()
    seeded = {"temperature": 1.0, "seed": 5, "max_tokens": 60}
    before = whole(own_system, **seeded)
    with own_system.http() as http:
        job = submit(http, max_tokens=LONG)
        wait_for(http, job["id"], lambda found: found["status"] == "in_progress")
    own_system.kill()
    own_system.wait_until(lambda: own_system.processes() == [], 15)
    own_system.start()
    with own_system.http() as http:
        ended = wait_for(http, job["id"], lambda found: found["status"] == "incomplete", 60)
    assert ended["result"]["choices"][0]["message"]["content"] == reference_answer(tiny_model, PROMPT, LONG)
    assert whole(own_system, **seeded) == before
    own_system.stop()
    assert own_system.processes() == []

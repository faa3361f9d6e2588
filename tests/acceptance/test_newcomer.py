"""A newcomer's walk: install, run, chat, submit, poll, watch, kill, resume, drain, stop."""

from __future__ import annotations

import itertools
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.acceptance.newcomer import Newcomer
from tests.acceptance.sse import Answer, blocks

pytestmark = [pytest.mark.timeout(1200), pytest.mark.walk]
QUESTION = "Count from 1 to 30"
GREEDY = ("--temperature", "0", "--max-tokens", "120")


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    walker = Newcomer(tmp_path)
    yield walker
    walker.leave()


def test_a_walk(newcomer: Newcomer) -> None:
    newcomer.make_run()
    answer = chat_submit_poll_and_watch(newcomer)
    kill_the_worker_that_has_it(newcomer, answer)
    cut_and_resume(newcomer, answer)
    drain(newcomer, answer)
    stop(newcomer)


def chat_submit_poll_and_watch(newcomer: Newcomer) -> str:
    """All four tell the same answer."""
    answer = newcomer.baton("chat", QUESTION, *GREEDY).rstrip("\n")
    assert "1" in answer and "2" in answer and len(answer) > 20
    job_id = newcomer.baton("submit", QUESTION, *GREEDY).strip()
    job = newcomer.job(job_id, wait_s=60)
    assert job["completed_at"] is not None
    assert job["result"]["choices"][0]["message"]["content"] == answer
    assert newcomer.baton("watch", job_id).rstrip("\n") == answer
    assert newcomer.baton("watch", "--poll", job_id).rstrip("\n") == answer
    return answer


def kill_the_worker_that_has_it(newcomer: Newcomer, answer: str) -> None:
    job_id = newcomer.baton("submit", QUESTION, *GREEDY).strip()
    newcomer.until(lambda: newcomer.job(job_id)["usage"]["completion_tokens"] >= 5, 60)
    worker = newcomer.job(job_id)["worker"]
    os.kill(newcomer.part(worker)["pid"], signal.SIGKILL)
    assert newcomer.baton("watch", job_id).rstrip("\n") == answer
    assert newcomer.job(job_id)["attempts"] == 2
    newcomer.until(lambda: bool(newcomer.part(worker)["state"] == "ready"), 120)


def cut_and_resume(newcomer: Newcomer, answer: str) -> None:
    ask = {
        "model": "SmolLM2-135M-Instruct",
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
        "max_tokens": 120,
        "stream": True,
    }
    url = f"{newcomer.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=ask, timeout=60) as response:
        found = list(itertools.islice(blocks(response), 5))
    again = {"Last-Event-ID": found[-1].id or ""}
    with httpx.stream("GET", f"{url}/{found[0].json['id']}/events", headers=again, timeout=60) as response:
        found += blocks(response)
    assert Answer.of(found) == Answer({0: answer}, {0: Answer.of(found).finish[0]}, is_done=True)


def drain(newcomer: Newcomer, answer: str) -> None:
    """The worker that has a job leaves; the other one finishes it."""
    job_id = newcomer.baton("submit", QUESTION, *GREEDY).strip()
    newcomer.until(lambda: newcomer.job(job_id)["usage"]["completion_tokens"] >= 5, 60)
    worker = newcomer.job(job_id)["worker"]
    newcomer.baton("workers", "drain", worker, "--wait")
    assert newcomer.baton("watch", job_id).rstrip("\n") == answer
    newcomer.until(lambda: bool(newcomer.part(worker)["state"] == "drained"), 30)


def stop(newcomer: Newcomer) -> None:
    """Ctrl-C: no process, no open port, nothing outside of the clone."""
    assert newcomer.processes()
    newcomer.control_c()
    newcomer.until(lambda: not newcomer.processes(), 30)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", urlsplit(newcomer.url).port or 0), timeout=5)
    assert list(newcomer.temporary.iterdir()) == []

"""A replica dies between accepting a request and answering it; the client repeats it elsewhere."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.system import System
from tests.acceptance.test_chat import PROMPT, body
from tests.tiny_chat_model import reference_answer

pytestmark = pytest.mark.timeout(240)
LONG = 1000
#: Seconds between a request and the death of the replica that got it.
DELAYS_S = (0.0, 0.005)


def post(system: System, replica: int, path: str, asked: dict[str, Any], key: str) -> httpx.Response:
    with system.http(replica) as http:
        return http.post(path, json=asked, headers={"idempotency-key": key})


def jobs(system: System) -> list[str]:
    """Ids, the newest first."""
    with system.http(1) as http:
        return [job["id"] for job in http.get("/v1/jobs", params={"limit": 100}).json()["data"]]


def test_a_request_repeated_after_a_crash_is_one_job(system: System, tiny_model: Path) -> None:
    known = jobs(system)

    def new_jobs() -> list[str]:
        return [job_id for job_id in jobs(system) if job_id not in known]

    asked = body(max_tokens=LONG)
    # Looked up before, as that may take as long as the answer.
    pid = system.part_pid("api-1")
    with ThreadPoolExecutor(1) as pool:
        lost = pool.submit(post, system, 0, "/v1/chat/completions", asked, "chat")
        system.wait_until(lambda: bool(new_jobs()), 20)
        os.kill(pid, signal.SIGKILL)
        assert isinstance(lost.exception(30), httpx.TransportError)
        again = post(system, 1, "/v1/chat/completions", asked, "chat")
        assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
        assert again.json()["choices"][0]["message"]["content"] == reference_answer(tiny_model, PROMPT, LONG)
        assert new_jobs() == [again.headers["x-job-id"]]
        for number, delay_s in enumerate(DELAYS_S):
            system.wait_until(system.is_ready, 60)
            accept_once_and_die(system, pool, f"job-{number}", delay_s)
    assert len(new_jobs()) == 1 + len(DELAYS_S)
    system.wait_until(system.is_ready, 60)


def accept_once_and_die(system: System, pool: ThreadPoolExecutor, key: str, delay_s: float) -> None:
    """Whatever came of the first try, the second answers its job, and later ones too."""
    asked = {"endpoint": "/v1/chat/completions", "body": body(max_tokens=5)}
    pid = system.part_pid("api-1")
    first: Future[httpx.Response] = pool.submit(post, system, 0, "/v1/jobs", asked, key)
    time.sleep(delay_s)
    os.kill(pid, signal.SIGKILL)
    error = first.exception(30)
    assert error is None or isinstance(error, httpx.TransportError)
    second, third = [post(system, 1, "/v1/jobs", asked, key) for _ in range(2)]
    assert (second.status_code, third.headers["idempotent-replayed"]) == (202, "true")
    ids = {second.json()["id"], third.json()["id"]} | ({first.result().json()["id"]} if not error else set())
    assert len(ids) == 1

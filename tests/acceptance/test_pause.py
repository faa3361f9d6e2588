"""Readers leave: their jobs pause, cost nothing, and continue token by token when a reader comes back."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.acceptance.sse import Answer, Block, blocks
from tests.acceptance.system import System
from tests.acceptance.test_chat import body, read_stream
from tests.tiny_chat_model import reference_answer

pytestmark = pytest.mark.timeout(240)
CHAT = "/v1/chat/completions"
#: Longer than any of these tests takes to drop its stream.
LENGTH = 500
NUM_STREAMS = 24


@pytest.fixture(scope="module")
def pausing(tiny_model: Path) -> Iterator[System]:
    """A system with the default grace time, so that what pauses stays paused."""
    running = System(tiny_model, PING_S="0.2")
    running.start()
    yield running
    running.remove()


#: Of the present test, to be closed after it.
OPENED: list[Cut] = []


@pytest.fixture(autouse=True)
def _closed_in_the_end() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


class Cut:
    """A streamed chat whose client closes its connection after a few events."""

    def __init__(self, system: System, number: int, *, replica: int = 0, length: int = LENGTH) -> None:
        self.prompt = f"what comes after {number}"
        self.length = length
        self.read: list[Block] = []
        self._system = system
        self._stack = ExitStack()
        OPENED.append(self)
        http = self._stack.enter_context(system.http(replica))
        ask = body(self.prompt, max_tokens=length, stream=True, stream_options={"include_usage": True})
        self._response = self._stack.enter_context(http.stream("POST", CHAT, json=ask))
        self._blocks = blocks(self._response)
        self.read_on(3)

    @property
    def chat_id(self) -> str:
        return str(self.read[0].json["id"])

    @property
    def job_id(self) -> str:
        return self.chat_id.replace("chatcmpl-", "job_")

    def read_on(self, num: int) -> None:
        self.read += [next(self._blocks) for _ in range(num)]

    def close(self) -> None:
        self._stack.close()

    def resume(self, replica: int) -> Answer:
        """The whole answer: what was read before, and the rest from a replica."""
        cursor = self.read[-1].id
        assert cursor is not None
        rest = read_stream(
            self._system, replica, f"{CHAT}/{self.chat_id}/events", headers={"last-event-id": cursor}
        )
        return Answer.of([*self.read, *rest])

    def check(self, answer: Answer, tiny_model: Path) -> None:
        assert answer.is_done and answer.finish == {0: "length"}
        assert answer.texts == {0: reference_answer(tiny_model, self.prompt, self.length)}
        assert answer.usage is not None and answer.usage["completion_tokens"] == self.length


def job(system: System, job_id: str) -> dict[str, Any]:
    with system.http() as http:
        found: dict[str, Any] = http.get(f"/v1/jobs/{job_id}").json()
        return found


def worker(system: System) -> dict[str, Any]:
    with system.http() as http:
        (found,) = http.get("/v1/workers").json()["data"]
    assert isinstance(found, dict)
    return found


def is_idle(system: System) -> bool:
    found = worker(system)
    return bool(found["jobs"] == 0 and found["stats"].get("sequences") == 0)


def test_dropped_streams_free_their_slots_and_lose_nothing(pausing: System, tiny_model: Path) -> None:
    with ThreadPoolExecutor(NUM_STREAMS) as clients:
        streams = list(clients.map(lambda number: Cut(pausing, number), range(NUM_STREAMS)))
    assert worker(pausing)["jobs"] == NUM_STREAMS
    for stream in streams:
        stream.close()
    pausing.wait_until(lambda: is_idle(pausing), 5)
    paused = [job(pausing, stream.job_id) for stream in streams]
    assert {(found["status"], found["paused"]) for found in paused} == {("queued", True)}
    process = psutil.Process(pausing.part_pid("worker-1"))
    before = process.cpu_times()
    time.sleep(1)
    spent = process.cpu_times()
    # Nothing is computed: what a worker without jobs does takes some hundredths of a second.
    assert spent.user + spent.system - before.user - before.system < 0.5
    # A worker killed meanwhile changes nothing; the first half comes back at the other replica.
    process.kill()
    with ThreadPoolExecutor(NUM_STREAMS) as readers:
        answers = list(readers.map(Cut.resume, streams, itertools.cycle([0, 1])))
    for stream, answer in zip(streams, answers, strict=True):
        stream.check(answer, tiny_model)
        assert job(pausing, stream.job_id)["status"] == "incomplete"


def test_a_worker_that_dies_between_two_readers_changes_nothing(pausing: System, tiny_model: Path) -> None:
    stream = Cut(pausing, 31)
    stream.close()
    pausing.wait_until(lambda: is_idle(pausing), 5)
    pid = pausing.part_pid("worker-1")
    with pausing.http() as http, ExitStack() as stack:
        url, cursor = f"{CHAT}/{stream.chat_id}/events", {"last-event-id": stream.read[-1].id or ""}
        response = stack.enter_context(http.stream("GET", url, headers=cursor))
        rest = blocks(response)
        stream.read += [next(rest) for _ in range(5)]
        os.kill(pid, signal.SIGKILL)
        stream.read += rest
    stream.check(Answer.of(stream.read), tiny_model)


def test_one_of_two_readers_leaves_and_the_other_does_not_notice(pausing: System, tiny_model: Path) -> None:
    stream = Cut(pausing, 41)
    with pausing.http(1) as http, http.stream("GET", f"{CHAT}/{stream.chat_id}/events") as response:
        other = blocks(response)
        found = [next(other) for _ in range(3)]
        stream.close()
        found += other
    stream.check(Answer.of(found), tiny_model)
    assert job(pausing, stream.job_id)["attempts"] == 1


@pytest.mark.parametrize("how", ["pause", "continue", "abort"])
def test_a_client_says_what_becomes_of_its_job(pausing: System, how: str) -> None:
    with pausing.http() as http:
        ask = body(max_tokens=LENGTH, stream=True)
        with http.stream("POST", CHAT, json=ask, headers={"x-on-disconnect": how}) as response:
            found = next(blocks(response))
        job_id = found.json["id"].replace("chatcmpl-", "job_")
        expected = {"pause": "queued", "continue": "incomplete", "abort": "cancelled"}[how]
        pausing.wait_until(lambda: job(pausing, job_id)["status"] == expected, 30)
        if how == "abort":
            assert job(pausing, job_id)["reason"] == "reader_gone"
        http.delete(f"/v1/jobs/{job_id}")


def test_a_replica_that_was_killed_loses_its_readers_after_its_lease(
    pausing: System, tiny_model: Path
) -> None:
    streams = [Cut(pausing, number, replica=1) for number in range(50, 54)]
    ids = [stream.job_id for stream in streams]
    os.kill(pausing.part_pid("api-2"), signal.SIGKILL)
    for stream in streams:
        with pytest.raises(httpx.TransportError):
            stream.read_on(10 * LENGTH)
        stream.close()
    # Some may have been finished before; none may keep its slot.
    pausing.wait_until(lambda: is_idle(pausing), 30)
    assert {job(pausing, job_id)["status"] for job_id in ids} <= {"queued", "incomplete"}
    for stream in streams:
        stream.check(stream.resume(replica=0), tiny_model)
    pausing.wait_until(pausing.is_ready, 30)


def test_paused_jobs_at_the_head_of_the_queue_delay_no_other_job(pausing: System, tiny_model: Path) -> None:
    with ExitStack() as stack:
        # All slots are taken, so that these wait when their clients leave.
        running = [Cut(pausing, number) for number in range(60, 92)]
        waiting = [stack.enter_context(pausing.http(1)) for _ in range(33)]
        for http in waiting:
            ask = {"endpoint": CHAT, "body": body(max_tokens=8), "on_disconnect": "pause"}
            job_id = http.post("/v1/jobs", json=ask).json()["id"]
            with http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
                next(response.iter_lines())
    for stream in running:
        stream.close()
    pausing.wait_until(lambda: is_idle(pausing), 10)
    with pausing.http() as http:
        answer = http.post(CHAT, json=body("what comes after 99", max_tokens=20)).json()
    assert answer["choices"][0]["message"]["content"] == reference_answer(
        tiny_model, "what comes after 99", 20
    )


def test_clients_that_open_and_close_a_hundred_times_change_no_neighbour(
    pausing: System, tiny_model: Path
) -> None:
    stream = Cut(pausing, 95)
    with pausing.http(1) as http:
        for number in range(100):
            with http.stream(
                "POST", CHAT, json=body(f"say {number}", max_tokens=LENGTH, stream=True)
            ) as response:
                assert response.status_code == 200
    stream.read += stream._blocks
    stream.check(Answer.of(stream.read), tiny_model)

"""A replica joins a job with its first reader and leaves with its last, whatever is repeated, late or lost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

import pytest

from api.streaming.readership import BEAT_S, POLL_S, Readership
from shared.domain.wake_up import WakeUp
from shared.errors import StoreUnavailable
from shared.store.job_store import JobStore, Joined, Reader, ReplicaBeat


class FakeStore:
    """What the store knows of one replica."""

    def __init__(self) -> None:
        self.has_lease = True
        self.registered: dict[str, int] = {}
        self.paused: set[str] = set()
        self.left: list[dict[str, int]] = []
        self.is_down = False

    async def register_replica(self, replica: str) -> None:  # noqa: ARG002
        await self._answer()
        self.has_lease = True

    async def join(self, job_id: str, reader: Reader) -> Joined:
        await self._answer()
        if not self.has_lease:
            return Joined("unknown")
        self.registered[job_id] = reader.seq
        if job_id in self.paused:
            self.paused.remove(job_id)
            return Joined("resumed", WakeUp(job_id, "m"))
        return Joined("joined")

    async def leave(self, replica: str, left: Mapping[str, int]) -> None:  # noqa: ARG002
        await self._answer()
        self.left.append(dict(left))
        for job_id, seq in left.items():
            if self.registered.get(job_id) == seq:
                del self.registered[job_id]

    async def beat_replica(self, replica: str, followed: Mapping[str, int]) -> ReplicaBeat | None:  # noqa: ARG002
        await self._answer()
        if not self.has_lease:
            return None
        strays = {job_id: seq for job_id, seq in self.registered.items() if job_id not in followed}
        missing = [j for j, seq in followed.items() if self.registered.get(j) != seq or j in self.paused]
        return ReplicaBeat(strays, missing)

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.is_down:
            raise StoreUnavailable("down")


class System:
    def __init__(self) -> None:
        self.store = FakeStore()
        self.now = 0.0
        self.wake_ups: list[WakeUp] = []
        self.readership = Readership(cast(JobStore, self.store), self, clock=lambda: self.now)

    async def send(self, wake_ups: list[WakeUp]) -> None:
        self.wake_ups += wake_ups

    async def read(self, job_id: str = "job_1") -> None:
        self.readership.add(job_id)
        await self.readership.join(job_id)


async def test_the_last_reader_that_leaves_ends_the_join() -> None:
    system = System()
    await system.read()
    await system.read()
    assert system.store.registered == {"job_1": 1}
    system.readership.remove("job_1", "left")
    await system.readership.flush()
    assert system.store.left == [] and system.readership.reads == {"job_1": 1}
    system.readership.remove("job_1", "left")
    await system.readership.flush()
    assert system.store.left == [{"job_1": 1}] and system.readership.reads == {}


async def test_a_reader_that_comes_back_has_a_number_that_the_leave_does_not_end() -> None:
    system = System()
    await system.read()
    system.readership.remove("job_1", "left")
    await system.readership.flush()
    await system.read()
    assert system.store.registered == {"job_1": 2}


async def test_a_reader_that_comes_back_before_the_leave_was_sent_keeps_the_join() -> None:
    system = System()
    await system.read()
    system.readership.remove("job_1", "left")
    system.readership.add("job_1")
    await system.readership.flush()
    assert system.store.left == [] and system.readership.reads == {"job_1": 1}


async def test_a_leave_waits_for_the_answer_of_create() -> None:
    system = System()
    system.readership.add("job_1")
    system.readership.joining("job_1")
    system.readership.remove("job_1", "left")
    await system.readership.flush()
    assert system.store.left == []
    system.readership.joined("job_1")
    await system.readership.flush()
    assert system.store.left == [{"job_1": 1}]


async def test_a_client_that_polls_stays_a_reader_for_a_while() -> None:
    system = System()
    await system.read()
    system.readership.remove("job_1", "polled")
    system.now = POLL_S - 1
    await system.readership.flush()
    assert system.store.left == []
    system.now = POLL_S
    await system.readership.flush()
    assert system.store.left == [{"job_1": 1}]


async def test_an_end_that_is_not_the_clients_leaves_nothing() -> None:
    system = System()
    await system.read()
    system.readership.remove("job_1", "ended")
    await system.readership.flush()
    assert system.store.left == [] and system.store.registered == {"job_1": 1}


async def test_a_registration_without_a_reader_is_ended_by_the_second_heartbeat() -> None:
    system = System()
    await system.read()
    system.readership.remove("job_1", "ended")
    await system.readership.beat()
    await system.readership.flush()
    assert system.store.left == []
    await system.readership.beat()
    await system.readership.flush()
    assert system.store.left == [{"job_1": 1}]


async def test_a_heartbeat_joins_what_is_not_registered_or_paused() -> None:
    system = System()
    await system.read("job_1")
    await system.read("job_2")
    system.store.registered.pop("job_1")
    system.store.paused.add("job_2")
    await system.readership.beat()
    assert system.store.registered == {"job_1": 1, "job_2": 2} and system.wake_ups == [WakeUp("job_2", "m")]


async def test_a_lost_lease_is_begun_anew_with_all_joins() -> None:
    system = System()
    await system.read()
    system.store.has_lease = False
    system.store.registered.clear()
    await system.readership.beat()
    assert system.store.has_lease and system.store.registered == {"job_1": 1}


async def test_the_first_join_begins_the_lease() -> None:
    system = System()
    system.store.has_lease = False
    await system.read()
    assert system.store.registered == {"job_1": 1}


async def test_a_leave_that_the_store_did_not_take_is_sent_again() -> None:
    system = System()
    await system.read()
    system.readership.remove("job_1", "left")
    system.store.is_down = True
    with pytest.raises(StoreUnavailable):
        await system.readership.flush()
    system.store.is_down = False
    await system.readership.flush()
    assert system.store.registered == {}


async def test_leaves_are_sent_at_once_and_heartbeats_in_their_time() -> None:
    system = System()
    system.readership = Readership(cast(JobStore, system.store), system)
    running = asyncio.create_task(system.readership.run())
    await system.read()
    system.readership.remove("job_1", "left")
    async with asyncio.timeout(BEAT_S / 2):
        while system.store.registered:
            await asyncio.sleep(0.001)
    running.cancel()

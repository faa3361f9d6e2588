"""A chat is followed before it is written, and written before anybody is rung for."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

import pytest

from api.dispatcher import Dispatcher
from api.relay import Relay
from shared.bell import Bell
from shared.errors import StoreUnavailable
from shared.job import Accepted, NewJob
from shared.job_store import JobStore
from shared.request_key import RequestKey
from tests.unit.api.streams import JOB_ID
from tests.unit.api.test_relay import FakeSource, FakeStore

JOB = NewJob(JOB_ID, "m", "public", {"messages": []})


class Store(FakeStore):
    """Accepts jobs, and notes in what order things happen."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log
        self.is_known = False

    async def create(self, job: NewJob, *, max_open: int) -> Accepted:  # noqa: ARG002
        await self._answer()
        self.log.append(f"create {job.id}")
        return Accepted(job.id, 1_700_000_000.25, is_replay=self.is_known)


class Ringer:
    def __init__(self, log: list[str]) -> None:
        self.log = log

    async def ring(self, bells: list[Bell]) -> None:
        self.log += [f"ring {bell.job_id} {bell.model}" for bell in bells]
        raise OSError("no broker")


class System:
    def __init__(self) -> None:
        self.log: list[str] = []
        self.store = Store(self.log)
        store = cast(JobStore, self.store)
        self.relay = Relay(store, FakeSource(), grace_s=15)
        self.dispatcher = Dispatcher(store, Ringer(self.log), self.relay, max_open_jobs=9)


async def test_a_job_is_written_then_rung_for() -> None:
    system = System()
    follower, facts = await system.dispatcher.accept_and_follow(JOB)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # A broker that fails does not matter: the reaper rings again.
    assert system.log == [f"create {JOB_ID}", f"ring {JOB_ID} m"]
    assert facts.created == 1_700_000_000 and not follower.is_reading
    assert system.relay.num_followers == 1


async def test_a_job_that_was_not_written_is_not_followed() -> None:
    system = System()
    system.store.is_down = True
    with pytest.raises(StoreUnavailable):
        await system.dispatcher.accept_and_follow(JOB)
    assert system.relay.num_followers == 0 and system.log == []


async def test_nobody_is_rung_for_what_was_accepted_before() -> None:
    system = System()
    system.store.is_known = True
    accepted = await system.dispatcher.accept(replace(JOB, key=RequestKey.of("k", "public", "/v1/jobs", {})))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert accepted.is_replay and system.log == [f"create {JOB_ID}"]

"""A job is subscribed to before it is stored, and stored before its wake-up is sent."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

import pytest

from api.dialects.base import JobInfo
from api.jobs.dispatcher import Dispatcher
from api.streaming.readership import Readership
from api.streaming.relay import Relay
from shared.domain.job import Accepted, NewJob
from shared.domain.request import GenerationRequest, TextPrompt
from shared.domain.request_key import RequestKey
from shared.domain.wake_up import WakeUp
from shared.errors import StoreUnavailable
from shared.store.job_store import JobStore, Reader
from tests.unit.api.streaming.test_relay import FakeSource, FakeStore
from tests.unit.api.streams import JOB_ID

JOB = NewJob(JOB_ID, "m", "public", GenerationRequest((TextPrompt("x"),)))


class Store(FakeStore):
    """Accepts jobs, and notes in what order things happen."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log
        self.is_known = False
        self.reader: Reader | None = None

    async def create(self, job: NewJob, *, max_open: int, reader: Reader | None = None) -> Accepted:  # noqa: ARG002
        await self._answer()
        self.log.append(f"create {job.id}")
        self.reader = reader
        return Accepted(job.id, 1_700_000_000.25, is_replay=self.is_known)


class WakeUpSender:
    def __init__(self, log: list[str]) -> None:
        self.log = log

    async def send(self, wake_ups: list[WakeUp]) -> None:
        self.log += [f"wake {wake_up.job_id} {wake_up.model}" for wake_up in wake_ups]
        raise OSError("no broker")


class System:
    def __init__(self) -> None:
        self.log: list[str] = []
        self.store = Store(self.log)
        store = cast(JobStore, self.store)
        sender = WakeUpSender(self.log)
        self.relay = Relay(store, FakeSource(), Readership(store, sender))
        self.dispatcher = Dispatcher(store, sender, self.relay, max_open_jobs=9)


async def test_a_job_is_written_before_its_wake_up_is_sent() -> None:
    system = System()
    subscription, job_info = await system.dispatcher.accept_and_follow(JOB)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    # A broker that fails does not matter: the reaper sends another one.
    assert system.log == [f"create {JOB_ID}", f"wake {JOB_ID} m"]
    assert job_info == JobInfo(JOB_ID, "/v1/chat/completions", "m", 1_700_000_000, 1)
    assert system.store.reader == subscription.reader and not subscription.is_reading
    assert system.relay.num_subscriptions == 1


async def test_a_job_that_was_not_written_is_not_followed() -> None:
    system = System()
    system.store.is_down = True
    with pytest.raises(StoreUnavailable):
        await system.dispatcher.accept_and_follow(JOB)
    assert system.relay.num_subscriptions == 0 and system.log == []


async def test_no_wake_up_is_sent_for_what_was_accepted_before() -> None:
    system = System()
    system.store.is_known = True
    accepted = await system.dispatcher.accept(replace(JOB, key=RequestKey.of("k", "public", "/v1/jobs", {})))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert accepted.is_replay and system.log == [f"create {JOB_ID}"]

"""A job is subscribed to before it is stored, and stored before its wake-up is sent."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import cast

import pytest

from api.dialects.base import JobInfo
from api.errors import Unsettled
from api.jobs.dispatcher import Dispatcher
from api.jobs.withdrawals import Withdrawals
from api.streaming.readership import Readership
from api.streaming.relay import Relay
from shared.domain.job import Accepted, NewJob
from shared.domain.request import GenerationRequest, TextPrompt
from shared.domain.request_key import RequestKey
from shared.domain.wake_up import WakeUp
from shared.errors import BrokerUnavailable, StoreUnavailable
from shared.store.job_store import NO_LIMITS, JobStore, Limits, Reader
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
        #: What becomes of a creation whose reply is lost.
        self.is_reply_lost, self.is_stored = False, True

    async def create(self, job: NewJob, *, limits: Limits, reader: Reader | None = None) -> Accepted:  # noqa: ARG002
        await self._answer()
        self.log.append(f"create {job.id}")
        self.reader = reader
        if self.is_reply_lost:
            raise StoreUnavailable("lost")
        return Accepted(job.id, 1_700_000_000.25, is_replay=self.is_known)

    async def ping(self) -> None:
        await self._answer()

    async def withdraw(self, job_id: str, key: RequestKey | None) -> Accepted | None:  # noqa: ARG002
        await self._answer()
        self.log.append(f"withdraw {job_id}")
        return Accepted(job_id, 1_700_000_000.25, is_replay=False) if self.is_stored else None


class WakeUpSender:
    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.has_failed = False

    async def ping(self) -> None:
        raise BrokerUnavailable("no broker")

    async def send(self, wake_ups: list[WakeUp]) -> None:
        self.log += [f"wake {wake_up.job_id} {wake_up.model}" for wake_up in wake_ups]
        raise OSError("no broker")


class System:
    def __init__(self) -> None:
        self.log: list[str] = []
        self.store = Store(self.log)
        store = cast(JobStore, self.store)
        self.sender = WakeUpSender(self.log)
        self.relay = Relay(store, FakeSource(), Readership(store, self.sender))
        self.dispatcher = Dispatcher(store, self.sender, self.relay, Withdrawals(store), limits=NO_LIMITS)


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
    with pytest.raises(Unsettled) as error:
        await system.dispatcher.accept_and_follow(JOB)
    assert error.value.job_id == JOB_ID and "cancelled" in str(error.value)
    assert system.relay.num_subscriptions == 0 and system.log == []
    system.store.is_down = False
    with pytest.raises(StoreUnavailable):
        system.store.is_reply_lost, system.store.is_stored = True, False
        await system.dispatcher.accept_and_follow(JOB)
    assert system.relay.num_subscriptions == 0
    assert system.log == [f"create {JOB_ID}", f"withdraw {JOB_ID}"]


async def test_a_job_whose_reply_was_lost_is_accepted() -> None:
    system = System()
    system.store.is_reply_lost = True
    _, job_info = await system.dispatcher.accept_and_follow(JOB)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert system.log == [f"create {JOB_ID}", f"withdraw {JOB_ID}", f"wake {JOB_ID} m"]
    assert job_info.created == 1_700_000_000 and system.relay.num_subscriptions == 1


async def test_without_a_broker_nobody_waits_for_a_new_job() -> None:
    system = System()
    await system.dispatcher.require_wake_ups(None)
    system.sender.has_failed = True
    with pytest.raises(BrokerUnavailable):
        await system.dispatcher.require_wake_ups(None)
    # Where both are one Redis, that is named.
    system.store.is_down = True
    with pytest.raises(StoreUnavailable, match="down"):
        await system.dispatcher.require_wake_ups(None)


async def test_no_wake_up_is_sent_for_what_was_accepted_before() -> None:
    system = System()
    system.store.is_known = True
    accepted = await system.dispatcher.accept(replace(JOB, key=RequestKey.of("k", "public", "/v1/jobs", {})))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert accepted.is_replay and system.log == [f"create {JOB_ID}"]

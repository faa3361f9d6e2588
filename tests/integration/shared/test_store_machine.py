"""The scripts under every order of events that hypothesis thinks of: workers, reapers and readers as the
protocol has them, lost and late calls, and a Redis that forgets what it wrote last.

`make machine EXAMPLES=2000` draws other runs than the suite, and more; SHRINK=1 shortens what fails.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from redis.asyncio import Redis

from api.streaming import subscription as subscription
from shared.cluster.reaper import Reaper
from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.events import CancelReason
from shared.domain.job import Priority
from shared.domain.request_key import RequestKey
from shared.domain.wake_up import WakeUp
from shared.errors import KeyReused, StoreUnavailable
from shared.store import keys
from shared.store.job_store import JobStore
from shared.store.redis_client import connect
from tests.integration.shared.machine.faulty_store import Fault, FaultyStore
from tests.integration.shared.machine.plan import MODEL, REVISION, Deadlined, Plan
from tests.integration.shared.machine.readers import Replica
from tests.integration.shared.machine.redis_copy import RedisCopy
from tests.integration.shared.machine.state import State
from tests.integration.shared.machine.worker import MachineWorker
from tests.redis_server import RedisServer

_EXAMPLES = int(os.environ.get("EXAMPLES", "100"))
_STEPS = 30
#: After the faults: rounds of everybody's work until all jobs must be over.
_CALM_ROUNDS = 60

# Faults are rare enough that most runs get somewhere.
faults = st.sampled_from([*["none"] * 5, "twice", "lost", "unsent"])
numbers = st.integers(0, 11)
pairs = st.integers(0, 1)


class _WakeUps(WakeUpSender):
    """Bells that nobody hears: workers here claim by themselves."""

    def __init__(self) -> None:
        self.sent: list[WakeUp] = []

    async def send(self, wake_ups: Iterable[WakeUp]) -> None:
        self.sent += wake_ups

    async def num_waiting(self, model: str) -> int:
        return sum(wake_up.model == model for wake_up in self.sent)


class StoreMachine(RuleBasedStateMachine):
    """Two workers, two reapers and a replica with readers, on one Redis."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.redis, self.raw = connect(self.url, timeout_s=5), Redis.from_url(self.url)
        self.truth = JobStore(self.redis)
        self.store = FaultyStore(self.redis)
        self.now = 0.0
        self.plans: dict[str, Plan] = {}
        self.workers = [MachineWorker(name, self.store, self.plans) for name in ("a", "b")]
        self.reapers = [Reaper(self.store, _WakeUps(), lease_s=3, clock=lambda: self.now) for _ in range(2)]
        self.replica = Replica(self.truth, lambda: self.now, self.wait)
        self.heard = self.redis.pubsub()
        self.copies: list[RedisCopy] = []
        #: What Redis held after the last step; None before the first, and when it was rolled back.
        self.before: State | None = None
        self.dead: list[str] = []
        self.loop.run_until_complete(self.raw.flushall())
        self.loop.run_until_complete(self.heard.psubscribe(keys.CHANNELS))

    def do(self, act: Awaitable[object], fault: Fault = "none") -> None:
        """Act under a fault; who gets no answer goes on as the protocol says."""
        self.store.fault = fault
        with suppress(StoreUnavailable):
            self.loop.run_until_complete(act)
        self.store.fault = "none"

    # Clients

    @initialize(
        lengths=st.lists(st.integers(1, 5), max_size=4), steps=st.integers(0, 2), is_upgraded=st.booleans()
    )
    def begin(self, lengths: list[int], steps: int, is_upgraded: bool) -> None:
        """Some jobs, begun by the first worker: a run of thirty steps seldom gets that far by itself."""
        for length in lengths:
            plan = Plan(len(self.plans), (length,))
            self.plans[plan.job_id] = plan
            self.do(self._create(plan, "", 0, "none"))
        for _ in range(steps):
            self.do(self.workers[0].claim())
            self.do(self.workers[0].publish())
            self.workers[0].generate(1)
        if is_upgraded:
            self.upgrade((0, 1), "next")

    @rule(
        lengths=st.lists(st.integers(0, 5), min_size=1, max_size=2),
        priority=st.sampled_from(["high", "normal", "low"]),
        deadlined=st.sampled_from([*["nothing"] * 5, "expires", "cancel", "reader"]),
        is_short_lived=st.booleans(),
        key=st.sampled_from(["", "", "k1", "k2"]),
        asked=pairs,
        fault=faults,
    )
    def create(
        self,
        lengths: list[int],
        priority: Priority,
        deadlined: Deadlined,
        is_short_lived: bool,
        key: str,
        asked: int,
        fault: Fault,
    ) -> None:
        if len(self.plans) < 8:
            plan = Plan(len(self.plans), tuple(lengths), priority, deadlined, is_short_lived)
            self.plans[plan.job_id] = plan
            self.do(self._create(plan, key, asked, fault))

    async def _create(self, plan: Plan, text: str, asked: int, fault: Fault) -> None:
        key = RequestKey.of(text, "owner", "/v1/jobs", {"asked": asked}) if text else None
        held = await self.redis.get(keys.idempotency(key.name)) if key else None
        new = replace(plan.new_job(), key=key)
        for _ in range(2):
            self.store.fault, fault = fault, "none"
            try:
                accepted = await self.store.create(new)
                break
            except KeyReused:
                assert held is not None and key is not None and held.split()[1] != key.fingerprint
                return
            except StoreUnavailable:
                continue
        assert accepted.job_id == (held.split()[0] if held else plan.job_id)
        assert accepted.is_replay == (held is not None)
        await self.replica.join(self.plans[accepted.job_id])

    @rule(job=numbers, reason=st.sampled_from(["client", "deadline", "reader_gone"]), fault=faults)
    def cancel(self, job: int, reason: CancelReason, fault: Fault) -> None:
        for plan in self._pick(job):
            self.do(self.store.cancel(plan.job_id, reason), fault)

    @rule(job=numbers, fault=faults)
    def give_up(self, job: int, fault: Fault) -> None:
        for plan in self._pick(job):
            self.do(self.store.give_up(plan.job_id, "client"), fault)

    @rule(job=numbers, fault=faults)
    def delete(self, job: int, fault: Fault) -> None:
        for plan in self._pick(job):
            self.do(self.store.forget(plan.job_id), fault)

    @rule(job=numbers, fault=faults)
    def retry(self, job: int, fault: Fault) -> None:
        for old in self._pick(job) if len(self.plans) < 8 else []:
            plan = Plan(len(self.plans), old.lengths, retry_of=old.job_id)
            self.plans[plan.job_id] = plan
            self.do(self._create(plan, "", 0, fault))

    def _pick(self, number: int) -> list[Plan]:
        plans = list(self.plans.values())
        return [plans[number % len(plans)]] if plans else []

    # Readers

    @rule(job=numbers)
    def follow(self, job: int) -> None:
        for plan in self._pick(job) if len(self.replica.readers) < 8 else []:
            self.do(self.replica.join(plan))

    @rule(number=st.integers(1, 4))
    def hear(self, number: int) -> None:
        self.do(self.replica.hear(number))

    @rule(number=st.integers(1, 4))
    def lose_messages(self, number: int) -> None:
        for _ in range(min(number, len(self.replica.under_way))):
            self.replica.under_way.popleft()

    @rule(act=st.sampled_from(["reconnect", "notice_silence", "renew"]))
    def look_after_readers(self, act: str) -> None:
        self.do(getattr(self.replica, act)())

    @rule(reader=numbers)
    def come_back(self, reader: int) -> None:
        if self.replica.readers:
            found = self.replica.readers[reader % len(self.replica.readers)]
            if not found.is_over:
                self.do(found.connect())

    # Workers

    @rule(worker=pairs, fault=faults)
    def claim(self, worker: int, fault: Fault) -> None:
        self.do(self.workers[worker].claim(), fault)

    @rule(worker=pairs, drawn=st.integers(0, 3))
    def generate(self, worker: int, drawn: int) -> None:
        self.workers[worker].generate(drawn)

    @rule(worker=pairs, drawn=st.integers(0, 3), fault=faults)
    def publish(self, worker: int, drawn: int, fault: Fault) -> None:
        self.workers[worker].generate(drawn)
        self.do(self._publish(self.workers[worker]), fault)

    async def _publish(self, worker: MachineWorker) -> None:
        """Nobody but the claim token writes."""
        others = {
            running.job.id: await self.truth.entries(running.job.id)
            for word, running in worker.jobs.items()
            if await self.redis.hget(keys.job(running.job.id), "claim_token") != word
        }
        try:
            await worker.publish()
        finally:
            for job_id, entries in others.items():
                assert await self.truth.entries(job_id) == entries

    @rule(worker=pairs, fault=faults)
    def beat(self, worker: int, fault: Fault) -> None:
        self.do(self.workers[worker].beat(), fault)

    @rule(worker=pairs, fault=faults)
    def park(self, worker: int, fault: Fault) -> None:
        self.do(self.workers[worker].park(), fault)

    @rule(worker=pairs, fault=faults)
    def drain(self, worker: int, fault: Fault) -> None:
        self.do(self.workers[worker].drain(), fault)

    @rule(worker=pairs)
    def kill(self, worker: int) -> None:
        self.dead.append(self.workers[worker].worker_instance)
        self.workers[worker].die()

    @rule(which=st.sampled_from([(0,), (1,), (0, 1)]), revision=st.sampled_from([REVISION, "next"]))
    def upgrade(self, which: tuple[int, ...], revision: str) -> None:
        for worker in which:
            self.dead.append(self.workers[worker].worker_instance)
            self.workers[worker].upgrade(revision)

    @rule(fault=faults)
    def supervise(self, fault: Fault) -> None:
        """`baton up` releases a worker that it saw die."""
        if self.dead:
            self.do(self.store.release(self.dead.pop(), "worker_died", died=True), fault)

    # Duties and faults

    @rule(reaper=pairs, waits=st.sampled_from([0, 1, 4, 7]), fault=faults)
    def reap(self, reaper: int, waits: float, fault: Fault) -> None:
        self.wait(waits)
        self.do(self.reapers[reaper].try_tick(), fault)

    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(call=numbers)
    def carry_out_late(self, call: int) -> None:
        if self.store.sent:
            self.do(self.store.repeat(call))

    @rule()
    def copy(
        self,
    ) -> None:
        self.copies = [*self.copies[-2:], self.loop.run_until_complete(RedisCopy.of(self.raw))]

    @rule(number=numbers)
    def roll_back(self, number: int) -> None:
        if self.copies:
            # What was written after the copy is lost for good: Redis never comes back to it.
            del self.copies[number % len(self.copies) + 1 :]
            self.do(self.copies[-1].restore(self.raw))
            # They were told rightly that their jobs were gone, which may be there again now.
            self.replica.dismiss_gone()
            self.do(self.replica.reconnect())
            self.before = None

    # What must hold

    @invariant()
    def holds(self) -> None:
        state = self.loop.run_until_complete(State.of(self.redis))
        state.check(self.plans)
        if self.before is not None:
            state.check_follows(self.before, self.plans, self.loop.run_until_complete(self._collect()))
        self.before = state
        self.replica.read()

    async def _collect(self) -> set[tuple[str, str]]:
        """What was published since: stream ids, by job."""
        await self.redis.publish(keys.channel("machine"), "[]")
        told: set[tuple[str, str]] = set()
        while True:
            message = await self.heard.get_message(ignore_subscribe_messages=True, timeout=5)
            if message is not None and message["data"] == "[]":
                return told
            if message is not None:
                told |= {(job_id, stream_id) for job_id, stream_id, *_ in json.loads(message["data"])}
                self.replica.under_way.append(message["data"])

    def teardown(self) -> None:
        try:
            self._calm_down()
        finally:
            self.loop.run_until_complete(self._close())
            self.loop.close()

    def _calm_down(self) -> None:
        """Without faults every job ends, and every reader is told."""
        for _ in range(_CALM_ROUNDS):
            for worker in self.workers:
                self.do(worker.beat())
                self.do(worker.claim())
                worker.generate(3)
                self.do(self._publish(worker))
            self.reap_all()
            if not self._now().zset(keys.ACTIVE) and not any(worker.jobs for worker in self.workers):
                break
        assert self._now().zset(keys.ACTIVE) == {}, "a job never ends"
        assert self._now().zset(keys.queued(MODEL)) == {}
        for _ in range(_CALM_ROUNDS):
            self.do(self.replica.notice_silence())
            self.replica.read()
            if all(reader.is_over for reader in self.replica.readers):
                break
        for reader in self.replica.readers:
            assert reader.is_over, "a reader hangs"
            assert not reader.is_gone or reader.plan.job_id not in self._now().job_ids

    def _now(self) -> State:
        assert self.before is not None
        return self.before

    def reap_all(self) -> None:
        self.wait(2)
        for reaper in self.reapers:
            self.do(reaper.tick())
        self.holds()

    async def _close(self) -> None:
        self.replica.close()
        await self.heard.aclose()  # type: ignore[no-untyped-call]
        await self.redis.aclose()
        await self.raw.aclose()


@pytest.mark.timeout(max(600, _EXAMPLES))
def test_nothing_is_lost_whatever_happens(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # So small that these streams are read in pages, and readers fall behind.
    monkeypatch.setattr(subscription, "MAX_PAGE", 3)
    monkeypatch.setattr(subscription, "MAX_UNREAD_BYTES", 1200)

    class Here(StoreMachine):
        url = redis_server.url

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=_EXAMPLES,
            stateful_step_count=_STEPS,
            deadline=None,
            derandomize="EXAMPLES" not in os.environ,
            database=None,
            # Shrinking a run of thirty steps takes minutes: on demand.
            phases=[Phase.generate, Phase.shrink] if "SHRINK" in os.environ else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )

"""The scripts under every order of events that hypothesis thinks of: workers, reapers, replicas and readers as the
protocol has them, lost and late calls, and a Redis that forgets what it wrote last.

`make machine EXAMPLES=2000` draws other runs than the suite, and more; SHRINK=1 shortens what fails.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Iterable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from redis.asyncio import Redis

from api.streaming import subscription
from api.streaming.readership import Departure
from shared.cluster.reaper import Reaper
from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.events import Cancelled
from shared.domain.job import Accepted, CancelReason, NewJob, OnDisconnect, Priority
from shared.domain.request_key import RequestKey
from shared.domain.wake_up import WakeUp
from shared.errors import KeyReused, StoreUnavailable
from shared.store import keys
from shared.store.job_store import JobStore
from shared.store.redis_client import connect
from tests.integration.shared.machine.faulty_store import Fault, FaultyStore
from tests.integration.shared.machine.plan import MODEL, REVISION, Deadlined, Plan
from tests.integration.shared.machine.readers import Client, Replica, told
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
    """Wake-ups that wake nobody: workers here claim by themselves."""

    def __init__(self) -> None:
        self.sent: list[WakeUp] = []

    async def send(self, wake_ups: Iterable[WakeUp]) -> None:
        self.sent += wake_ups

    async def num_waiting(self, model: str) -> int:
        return sum(wake_up.model == model for wake_up in self.sent)


class StoreMachine(RuleBasedStateMachine):
    """Two workers, two reapers and two replicas with readers, on one Redis."""

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
        self.replicas = [Replica(name, self.store, lambda: self.now, self.wait) for name in ("r1", "r2")]
        self.heard = self.redis.pubsub()
        self.copies: list[RedisCopy] = []
        #: What Redis held after the last step; None before the first, and when it was rolled back.
        self.before: State | None = None
        self.dead: list[str] = []
        self.loop.run_until_complete(self.raw.flushall())
        self.loop.run_until_complete(self.heard.psubscribe(keys.channel("*")))

    def do(self, act: Awaitable[object], fault: Fault = "none") -> None:
        """Act under a fault; who gets no answer goes on as the protocol says."""
        self.store.fault = fault
        with suppress(StoreUnavailable):
            self.loop.run_until_complete(act)
        self.store.fault = "none"

    # Clients

    @initialize(
        lengths=st.lists(st.integers(1, 5), max_size=4),
        steps=st.integers(0, 2),
        is_upgraded=st.booleans(),
        num_pauses=st.integers(0, 4),
        can_continue=st.booleans(),
    )
    def begin(
        self, lengths: list[int], steps: int, is_upgraded: bool, num_pauses: int, can_continue: bool
    ) -> None:
        """Some jobs, begun by the first worker: a run of thirty steps seldom gets that far by itself."""
        if is_upgraded:
            self.upgrade((0,), REVISION, can_continue=can_continue)
        for length in lengths:
            plan = Plan(len(self.plans), (length,), on_disconnect="pause" if length % 2 else "continue")
            self.plans[plan.job_id] = plan
            self.do(self._create(plan, plan.number % 2, "", 0, "none"))
        for _ in range(steps):
            self._run_first_worker()
        for number in range(num_pauses):
            self.abandon(number // 2, number % 2, "none")
            self._run_first_worker()
        if is_upgraded:
            self.upgrade((0, 1), "next")

    def _run_first_worker(self) -> None:
        self.do(self.workers[0].claim())
        self.do(self.workers[0].publish())
        self.workers[0].generate(1)
        self.do(self.workers[0].publish())

    @rule(
        lengths=st.lists(st.integers(0, 5), min_size=1, max_size=2),
        priority=st.sampled_from(["high", "normal", "low"]),
        deadlined=st.sampled_from([*["nothing"] * 5, "expires", "cancel"]),
        on_disconnect=st.sampled_from(["continue", "pause", "pause", "abort"]),
        is_short_lived=st.booleans(),
        key=st.sampled_from(["", "", "k1", "k2"]),
        asked=pairs,
        reader=st.sampled_from([None, 0, 1]),
        fault=faults,
    )
    def create(
        self,
        lengths: list[int],
        priority: Priority,
        deadlined: Deadlined,
        on_disconnect: OnDisconnect,
        is_short_lived: bool,
        key: str,
        asked: int,
        reader: int | None,
        fault: Fault,
    ) -> None:
        if len(self.plans) < 8:
            plan = Plan(len(self.plans), tuple(lengths), priority, deadlined, on_disconnect, is_short_lived)
            self.plans[plan.job_id] = plan
            self.do(self._create(plan, reader, key, asked, fault))

    async def _create(self, plan: Plan, reader: int | None, text: str, asked: int, fault: Fault) -> None:
        """By a client of the replica `reader` that reads the job from then on, or of none."""
        key = RequestKey.of(text, "owner", "/v1/jobs", {"asked": asked}) if text else None
        known = await self.redis.get(keys.idempotency(key.name)) if key else None
        client = Client(plan)
        try:
            if reader is None:
                accepted = await self._create_unread(replace(plan.new_job(), key=key), fault)
            else:
                accepted = await client.create(self.replicas[reader], key, fault)
        except KeyReused:
            assert known is not None and key is not None and known.split()[1] != key.fingerprint
            return
        assert accepted.job_id == (known.split()[0] if known else plan.job_id)
        assert accepted.is_replay == (known is not None)
        if reader is not None and accepted.is_replay:
            await self.replicas[reader].join(self.plans[accepted.job_id])
        elif reader is not None:
            self.replicas[reader].clients.append(client)

    async def _create_unread(self, new: NewJob, fault: Fault) -> Accepted:
        self.store.fault = fault
        try:
            return await self.store.create(new)
        except StoreUnavailable:
            return await self.store.create(new)

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
            self.do(self._create(plan, None, "", 0, fault))

    def _pick(self, number: int) -> list[Plan]:
        plans = list(self.plans.values())
        return [plans[number % len(plans)]] if plans else []

    # Replicas and readers

    @rule(job=numbers, replica=pairs, fault=faults)
    def follow(self, job: int, replica: int, fault: Fault) -> None:
        for plan in self._pick(job) if len(self._clients()) < 8 else []:
            self.do(self.replicas[replica].join(plan), fault)
            self._is_not_paused(self.replicas[replica].clients[-1])

    @rule(client=numbers, replica=pairs, fault=faults)
    def come_back(self, client: int, replica: int, fault: Fault) -> None:
        for old, found in self._pick_client(client):
            if not found.is_over:
                found.disconnect("ended")
                self.replicas[replica].take_over(found, old)
                self.do(found.connect(self.replicas[replica]), fault)
                self._is_not_paused(found)

    def _is_not_paused(self, client: Client) -> None:
        """Whoever has joined a job has un-paused it."""
        state = self.loop.run_until_complete(State.of(self.redis))
        assert not client.is_connected or client.is_over or not state.is_paused(client.plan.job_id)

    @rule(client=numbers, departure=st.sampled_from(["left", "left", "polled", "ended"]), fault=faults)
    def leave(self, client: int, departure: Departure, fault: Fault) -> None:
        for replica, found in self._pick_client(client):
            replica.leave(found, departure)
            self.do(replica.flush(), fault)

    @rule(job=numbers, reads_again=st.sampled_from([None, 0, 1]), fault=faults)
    def abandon(self, job: int, reads_again: int | None, fault: Fault) -> None:
        """Every client of a job disconnects; maybe another one comes."""
        for plan in self._pick(job):
            for replica, client in self._clients():
                if client.plan is plan:
                    replica.leave(client, "left")
            for replica in self.replicas:
                self.do(replica.flush(), fault)
            if reads_again is not None:
                self.do(self.replicas[reads_again].join(plan), fault)
                self._is_not_paused(self.replicas[reads_again].clients[-1])

    @rule(number=st.integers(1, 4), replica=pairs)
    def hear(self, number: int, replica: int) -> None:
        self.do(self.replicas[replica].hear(number))

    @rule(number=st.integers(1, 4), replica=pairs)
    def lose_messages(self, number: int, replica: int) -> None:
        under_way = self.replicas[replica].under_way
        for _ in range(min(number, len(under_way))):
            under_way.popleft()

    @rule(
        act=st.sampled_from(["reconnect", "notice_silence", "beat", "beat", "flush", "flush", "flush"]),
        replica=pairs,
        fault=faults,
    )
    def look_after_readers(self, act: str, replica: int, fault: Fault) -> None:
        self.do(getattr(self.replicas[replica], act)(), fault)

    @rule(replica=pairs)
    def kill_replica(self, replica: int) -> None:
        self.replicas[replica].die()

    def _clients(self) -> list[tuple[Replica, Client]]:
        return [(replica, client) for replica in self.replicas for client in replica.clients]

    def _pick_client(self, number: int) -> list[tuple[Replica, Client]]:
        clients = self._clients()
        return [clients[number % len(clients)]] if clients else []

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
    def preempt(self, worker: int, fault: Fault) -> None:
        self.do(self.workers[worker].preempt(), fault)

    @rule(worker=pairs, fault=faults)
    def drain(self, worker: int, fault: Fault) -> None:
        self.do(self.workers[worker].drain(), fault)

    @rule(worker=pairs)
    def kill(self, worker: int) -> None:
        self.dead.append(self.workers[worker].worker_instance)
        self.workers[worker].die()

    @rule(
        which=st.sampled_from([(0,), (1,), (0, 1)]),
        revision=st.sampled_from([REVISION, "next"]),
        can_continue=st.booleans(),
    )
    def upgrade(self, which: tuple[int, ...], revision: str, can_continue: bool = True) -> None:
        for worker in which:
            self.dead.append(self.workers[worker].worker_instance)
            self.workers[worker].upgrade(revision, can_continue=can_continue)

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
            for replica in self.replicas:
                replica.dismiss_gone()
                self.do(replica.reconnect())
            self.before = None

    # What must hold

    @invariant()
    def holds(self) -> None:
        state = self.loop.run_until_complete(State.of(self.redis))
        state.check(self.plans)
        published = self.loop.run_until_complete(self._collect())
        if self.before is not None:
            state.check_follows(self.before, self.plans, published)
        self.before = state
        for replica in self.replicas:
            replica.read()

    async def _collect(self) -> dict[str, set[tuple[str, str]]]:
        """What was published since: jobs and stream ids, by the replica that is told."""
        await self.redis.publish(keys.channel("machine"), "[]")
        found: dict[str, set[tuple[str, str]]] = {}
        while True:
            message = await self.heard.get_message(ignore_subscribe_messages=True, timeout=5)
            if message is None:
                continue
            name = message["channel"].removeprefix(keys.channel(""))
            if name == "machine":
                return found
            found.setdefault(name, set()).update(told(message["data"]))
            for replica in self.replicas:
                if replica.name == name:
                    replica.under_way.append(message["data"])

    def teardown(self) -> None:
        try:
            self._calm_down()
        finally:
            self.loop.run_until_complete(self._close())
            self.loop.close()

    def _calm_down(self) -> None:
        """Without faults every job ends, and every reader is told."""
        self._settle_readers()
        read = {client.plan.job_id for _, client in self._clients() if not client.is_over}
        ended = {job_id for job_id in read if self._is_abandoned(job_id)}
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
        for job_id in read - ended:
            assert not self._is_abandoned(job_id), "a job ended for want of readers that it had"
        for _ in range(_CALM_ROUNDS):
            for replica in self.replicas:
                self.do(replica.notice_silence())
                replica.read()
            if all(client.is_over for _, client in self._clients()):
                break
        for _, client in self._clients():
            assert client.is_over, "a reader hangs"
            assert not client.is_gone or client.plan.job_id not in self._now().job_ids

    def _settle_readers(self) -> None:
        """Clients come back and the replicas' heartbeats mend what went wrong: then no job that is read is paused."""
        for replica, client in self._clients():
            if not client.is_over and not client.is_connected:
                self.do(client.connect(replica))
        for _ in range(3):
            self._look_after_replicas()
        self.holds()
        for replica in self.replicas:
            for job_id in replica.reads:
                assert job_id not in self._now().job_ids or not self._now().is_paused(job_id)
        self.holds()

    def _look_after_replicas(self) -> None:
        for replica in self.replicas:
            self.do(replica.beat())
            self.do(replica.flush())

    def _is_abandoned(self, job_id: str) -> bool:
        entries = self._now().streams.get(job_id, [])
        return bool(entries) and entries[-1].event == Cancelled("reader_gone")

    def _now(self) -> State:
        assert self.before is not None
        return self.before

    def reap_all(self) -> None:
        self.wait(2)
        self._look_after_replicas()
        for reaper in self.reapers:
            self.do(reaper.tick())
        self.holds()

    async def _close(self) -> None:
        for replica in self.replicas:
            replica.close()
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

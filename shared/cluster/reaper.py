"""Reaper: requeues dead workers' jobs, ends dead replicas' leases, re-sends lost wake-ups, enforces deadlines.

Each API replica and each worker runs one. Several may run at once: each action first checks that what it saw has not
changed. A process counts as dead when its heartbeat does not change for long enough on this process's own monotonic
clock. Redis's clock is never used for that, and all waiting times start again after a failure to reach Redis. A record
that cannot be read, such as one of a newer version, is skipped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Hashable, Mapping

from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.lease import WorkerState
from shared.domain.wake_up import WakeUp
from shared.errors import BrokerUnavailable, ScriptFailed, StoreUnavailable
from shared.runtime.failpoint import failpoint
from shared.store.deadline import Deadline
from shared.store.job_store import JobStore, Served

logger = logging.getLogger(__name__)

_TICK_S = 0.5
#: A wake-up counts as lost after this time.
_WAKE_UP_PATIENCE_S = 2.0
#: An API replica without a heartbeat for this long is dead. It sends one every few seconds.
REPLICA_LEASE_S = 10.0
#: How much longer a paused job is kept after its deadline, so that a replica can join again. Longer after an outage of
#: Redis, because nobody could join during it.
_PAUSED_PATIENCE_S, _PAUSED_PATIENCE_AFTER_OUTAGE_S = 6.0, 30.0
#: Jobs that no worker of their model can serve fail after the workers have not changed for this long.
REVISION_PATIENCE_S = 60.0
_BATCH = 500


class Patience:
    """Measures for how long things have stayed unchanged, on this process's clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: dict[Hashable, tuple[object, float]] = {}

    def unchanged_s(self, thing: Hashable, value: object) -> float:
        """Return for how many seconds `thing` has had this `value`."""
        now = self._clock()
        if thing not in self._seen or self._seen[thing][0] != value:
            self._seen[thing] = (value, now)
        return now - self._seen[thing][1]

    def keep_only(self, kind: str, things: set[Hashable]) -> None:
        """Forget the tuples that begin with `kind` and are not in `things`."""
        for thing in [t for t in self._seen if isinstance(t, tuple) and t[0] == kind and t not in things]:
            del self._seen[thing]

    def reset(self) -> None:
        self._seen.clear()


class Reaper:
    """One reaper. `run` ticks until cancelled; tests call `tick`."""

    def __init__(
        self,
        store: JobStore,
        sender: WakeUpSender,
        *,
        lease_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._sender = sender
        self._lease_s = lease_s
        self._clock = clock
        self._patience = Patience(clock)
        #: When Redis was last unreachable. None: not since the start.
        self._outage_at: float | None = None
        self._audited = 0
        #: How often it did what since the start: released a dead worker's jobs, repaired or promoted a job, sent a
        #: lost wake-up again, or acted on a deadline (by its kind).
        self.acts = Counter[str]()

    async def run(self) -> None:
        """Tick twice a second until cancelled."""
        while True:
            started = self._clock()
            await self.try_tick()
            await asyncio.sleep(_TICK_S)
            if self._clock() - started > self._lease_s:
                # This process itself was suspended, so it cannot judge others by what it saw before.
                self._patience.reset()

    async def try_tick(self) -> None:
        """Tick. If Redis does not answer, skip the tick and restart all waiting times."""
        try:
            await self.tick()
        except StoreUnavailable as error:
            logger.warning("reaper skipped a round: %s", error)
            self._patience.reset()
            self._outage_at = self._clock()

    async def tick(self) -> None:
        """Do one round of all duties. Raises StoreUnavailable.

        It raises also while Redis refuses writes, since `promote` always writes. Nobody can send a heartbeat then, so
        a missing heartbeat means nothing.
        """
        survey = await self._store.survey(first=self._audited, limit=_BATCH)
        wake_ups = await self._bury_dead(survey.workers)
        wake_ups += await self._bury_unreadable(survey.unreadable)
        await self._bury_replicas(survey.replicas)
        wake_ups += await self._audit(survey.active, self._lasting(survey.workers))
        await self._keep_deadlines(survey.due)
        await self._sender.send(wake_ups)
        promoted, waiting = await self._store.promote(sorted(survey.models))
        self.acts["promoted"] += promoted
        try:
            await self._sender.send(await self._lost_wake_ups(survey.workers, waiting))
        except BrokerUnavailable as error:
            # It may be another Redis than the store: the other duties go on.
            logger.warning("reaper cannot count wake-ups: %s", error)
            self._patience.keep_only("wake_ups", set())

    async def _bury_dead(self, workers: list[WorkerState]) -> list[WakeUp]:
        wake_ups: list[WakeUp] = []
        for worker in workers:
            if self._patience.unchanged_s(("worker", worker.worker_instance), worker.beat) > self._lease_s:
                logger.warning("worker %s sent no heartbeat for %s s", worker.worker_instance, self._lease_s)
                failpoint("reaper_judged")
                wake_ups += await self._release(worker.worker_instance)
                failpoint("reaper_released")
                self.acts["buried"] += 1
        self._patience.keep_only("worker", {("worker", worker.worker_instance) for worker in workers})
        return wake_ups

    async def _bury_unreadable(self, records: dict[str, Mapping[str, str]]) -> list[WakeUp]:
        """Release leases that this version cannot read, once their records stop changing."""
        wake_ups: list[WakeUp] = []
        for worker_instance, record in records.items():
            thing = ("unreadable", worker_instance)
            if self._patience.unchanged_s(thing, frozenset(record.items())) > self._lease_s:
                logger.warning("removing the unreadable lease of %r", worker_instance)
                wake_ups += await self._release(worker_instance)
                self.acts["unreadable"] += 1
        self._patience.keep_only("unreadable", {("unreadable", name) for name in records})
        return wake_ups

    async def _release(self, worker_instance: str) -> list[WakeUp]:
        """Release a dead worker's jobs. One whose records are damaged does not keep the reaper from the others."""
        try:
            return await self._store.release(worker_instance, "worker_died", died=True)
        except ScriptFailed as error:
            logger.error("cannot release %r: %s", worker_instance, error)
            return []

    async def _bury_replicas(self, beats: dict[str, str]) -> None:
        for replica, beat in beats.items():
            if self._patience.unchanged_s(("replica", replica), beat) > REPLICA_LEASE_S:
                logger.warning("replica %s sent no heartbeat for %s s", replica, REPLICA_LEASE_S)
                try:
                    await self._store.release_replica(replica)
                except ScriptFailed as error:
                    logger.error("cannot release %s: %s", replica, error)
                self.acts["replica"] += 1
        self._patience.keep_only("replica", {("replica", replica) for replica in beats})

    def _lasting(self, workers: list[WorkerState]) -> dict[str, Served]:
        """Return what each model's workers serve, for the models where that has not changed for long enough."""
        served: dict[str, Served] = {}
        for worker in workers:
            before = served.get(worker.model, Served(frozenset(), 0))
            served[worker.model] = Served(
                before.revisions | {worker.model_revision}, max(before.reads, worker.reads)
            )
        self._patience.keep_only("served", {("served", model) for model in served})
        return {
            model: found
            for model, found in served.items()
            if self._patience.unchanged_s(("served", model), found) > REVISION_PATIENCE_S
        }

    async def _audit(self, ids: list[str], lasting: dict[str, Served]) -> list[WakeUp]:
        self._audited = self._audited + len(ids) if len(ids) == _BATCH else 0
        if not ids:
            return []
        mended, failed = await self._store.audit(ids, lasting=lasting)
        if mended:
            failpoint("reaper_mended")
        for job_id in failed:
            logger.warning("%s failed: no worker of its model can serve it", job_id)
        self.acts["mended"] += len(mended)
        self.acts["outdated"] += len(failed)
        return mended

    async def _lost_wake_ups(self, workers: list[WorkerState], waiting: dict[str, int]) -> list[WakeUp]:
        """Return new wake-ups for the queued jobs whose wake-ups were lost. Raises BrokerUnavailable."""
        held = Counter[str]()
        for worker in workers:
            # Each running job keeps one wake-up. The worker can claim further jobs with the rest.
            held[worker.model] += max(0, worker.wake_ups - worker.jobs)
        lost: list[WakeUp] = []
        for model, num_jobs in waiting.items():
            missing = num_jobs - held[model]
            if missing > 0:
                missing -= await self._sender.num_waiting(model)
            thing = ("wake_ups", model)
            if self._patience.unchanged_s(thing, missing > 0) > _WAKE_UP_PATIENCE_S and missing > 0:
                head = await self._store.first_queued(model)
                lost += [WakeUp(head, model)] * min(missing, _BATCH) if head else []
                self.acts["resent"] += min(missing, _BATCH)
                failpoint("reaper_waking")
                logger.warning("%d wake-ups for %s were lost", missing, model)
        return lost

    async def _keep_deadlines(self, due: list[Deadline]) -> None:
        for deadline in due:
            try:
                await self._keep(deadline)
            except ScriptFailed as error:
                logger.error("%s: cannot act on its deadline: %s", deadline.job_id, error)
        self._patience.keep_only("paused", {("paused", d.job_id) for d in due if d.kind == "paused"})

    async def _keep(self, deadline: Deadline) -> None:
        match deadline.kind:
            case "expires":
                await self._store.expire(deadline.job_id, seen=deadline)
            case "cancel":
                await self._store.cancel(deadline.job_id, "deadline", seen=deadline)
            case "paused":
                thing = ("paused", deadline.job_id)
                if self._patience.unchanged_s(thing, deadline.due_ms) <= self._paused_patience_s:
                    return
                await self._store.cancel(deadline.job_id, "reader_gone", seen=deadline)
            case "retention":
                await self._store.forget(deadline.job_id)
        failpoint("deadline_kept")
        self.acts[deadline.kind] += 1

    @property
    def _paused_patience_s(self) -> float:
        was_away = (
            self._outage_at is not None
            and self._clock() - self._outage_at < 2 * _PAUSED_PATIENCE_AFTER_OUTAGE_S
        )
        return _PAUSED_PATIENCE_AFTER_OUTAGE_S if was_away else _PAUSED_PATIENCE_S

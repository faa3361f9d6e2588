"""Readership: which jobs this replica reads for its clients, as the store knows it.

The store publishes a job's events only to replicas that have joined it, and pauses a job whose last reader has left.
A replica joins a job with its first reader there and leaves with its last. Each join has a number of its own, so that a
leave that comes late or twice cannot end a newer join.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from shared.domain.wake_up import WakeUp
from shared.errors import ScriptFailed, StoreUnavailable
from shared.store.job_store import JobStore, Joined, Reader

logger = logging.getLogger(__name__)

#: How a reader ends: its client closed the connection; its poll was answered and another one may follow; or the job,
#: an error or this process ended the reading, which says nothing about the client.
Departure = Literal["left", "polled", "ended"]

#: Seconds between two heartbeats. The reaper takes a replica for dead after 10 s.
BEAT_S = 3.0
#: Seconds for which a client that polls counts as a reader after each answer.
POLL_S = 15.0
_TICK_S = 0.25


class Sender(Protocol):
    """The part of `shared.cluster.wake_up_sender.WakeUpSender` that is needed here."""

    async def send(self, wake_ups: list[WakeUp]) -> None: ...


@dataclass(slots=True)
class _Read:
    """A job that this replica reads."""

    seq: int
    num_readers: int = 0
    #: Calls on their way that register this join.
    num_joining: int = 0
    #: Until when it is kept without readers; None: it has some.
    until: float | None = None


class Readership:
    """Joins and leaves jobs. `run` it until cancelled."""

    def __init__(
        self,
        store: JobStore,
        sender: Sender,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._sender = sender
        self._clock = clock
        #: The name under which the store knows this replica; another one after each start.
        self.replica = secrets.token_hex(8)
        self._seq = 0
        self._reads: dict[str, _Read] = {}
        #: Joins to end: job -> number.
        self._leaving: dict[str, int] = {}
        #: Registrations without a reader here that the last heartbeat found.
        self._strays: Mapping[str, int] = {}
        self._work = asyncio.Event()

    @property
    def reads(self) -> dict[str, int]:
        """Each job that is read, or was polled a moment ago, with the number of its join."""
        return {job_id: read.seq for job_id, read in self._reads.items()}

    def add(self, job_id: str) -> Reader:
        """Another reader of a job. It counts once `join` or `JobStore.create` has registered it."""
        read = self._reads.get(job_id)
        if read is None:
            self._leaving.pop(job_id, None)
            self._seq += 1
            read = self._reads[job_id] = _Read(self._seq)
        read.num_readers += 1
        read.until = None
        return Reader(self.replica, read.seq)

    def joining(self, job_id: str) -> None:
        """A call that registers the join is on its way: a leave waits for `joined`."""
        if job_id in self._reads:
            self._reads[job_id].num_joining += 1

    def joined(self, job_id: str) -> None:
        """That call has ended, whatever came of it."""
        if job_id in self._reads:
            self._reads[job_id].num_joining -= 1
            self._work.set()

    def remove(self, job_id: str, departure: Departure) -> None:
        """A reader is gone."""
        read = self._reads[job_id]
        read.num_readers -= 1
        if read.num_readers > 0:
            return
        if departure == "ended":
            del self._reads[job_id]  # a heartbeat finds the registration where the job is not over
        else:
            read.until = self._clock() + (POLL_S if departure == "polled" else 0.0)
            self._work.set()

    async def join(self, job_id: str) -> Joined:
        """Register this replica as a reader of a job, which un-pauses it. Raises StoreUnavailable."""
        read = self._reads.get(job_id)
        if read is None:
            return Joined("gone")
        self.joining(job_id)
        try:
            answer = await self._store.join(job_id, Reader(self.replica, read.seq))
            if answer.status == "unknown":
                await self._store.register_replica(self.replica)
                answer = await self._store.join(job_id, Reader(self.replica, read.seq))
        finally:
            self.joined(job_id)
        if answer.wake_up is not None:
            await self._sender.send([answer.wake_up])
        return answer

    async def run(self) -> None:
        """Send heartbeats and leaves, for ever."""
        beat_at = self._clock()
        while True:
            try:
                if self._clock() >= beat_at:
                    beat_at = self._clock() + BEAT_S
                    await self.beat()
                await self.flush()
            except StoreUnavailable as error:
                logger.warning("readership: %s", error)
                await asyncio.sleep(_TICK_S)
            await self._rest(beat_at)

    async def beat(self) -> None:
        """One heartbeat; mends what the store and this replica do not agree on. Raises StoreUnavailable."""
        answer = await self._store.beat_replica(self.replica, self.reads)
        if answer is None:
            await self._store.register_replica(self.replica)
            missing = list(self._reads)
        else:
            # Twice in a row: between two calls a registration may be ahead of the reader that it belongs to.
            strays = {job_id: seq for job_id, seq in answer.strays.items() if job_id not in self._reads}
            self._leaving |= {j: seq for j, seq in strays.items() if self._strays.get(j) == seq}
            self._strays = strays
            missing = answer.missing
        for job_id in missing:
            if job_id in self._reads and not self._reads[job_id].num_joining:
                try:
                    await self.join(job_id)
                except ScriptFailed as error:
                    logger.error("cannot join %s: %s", job_id, error)

    async def flush(self) -> None:
        """Leave the jobs whose time without readers is over. Raises StoreUnavailable."""
        now = self._clock()
        for job_id, read in list(self._reads.items()):
            if read.until is not None and read.until <= now and not read.num_joining:
                del self._reads[job_id]
                self._leaving[job_id] = read.seq
        leaving = dict(self._leaving)
        if leaving:
            await self._leave(leaving)
            for job_id, seq in leaving.items():
                if self._leaving.get(job_id) == seq:
                    del self._leaving[job_id]

    async def _leave(self, leaving: Mapping[str, int]) -> None:
        """Leave these jobs. One whose record is damaged does not keep the others."""
        try:
            await self._store.leave(self.replica, leaving)
        except ScriptFailed as error:
            if len(leaving) > 1:
                for job_id, seq in leaving.items():
                    await self._leave({job_id: seq})
            else:
                logger.error("cannot leave %s: %s", *leaving, error)

    async def _rest(self, beat_at: float) -> None:
        """Until there is something to do."""
        ends = [
            read.until for read in self._reads.values() if read.until is not None and not read.num_joining
        ]
        until = min([beat_at, *ends])
        try:
            async with asyncio.timeout(max(0.0, until - self._clock())):
                await self._work.wait()
        except TimeoutError:
            pass
        self._work.clear()

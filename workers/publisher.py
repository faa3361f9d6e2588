"""Publisher: writes what the backend makes to the jobs' streams, one call at a time for all of them."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence

from shared.append import Append, AppendAnswer
from shared.errors import StoreUnavailable
from shared.failpoint import Name, failpoint
from shared.job_store import JobStore
from workers.backends.backend import StepOutput
from workers.backoff import Backoff
from workers.lease import LeaseKeeper
from workers.running import RunningJob, RunningJobs
from workers.telemetry import Telemetry
from workers.transcript import Transcript

logger = logging.getLogger(__name__)

#: A running job without news asks this often whether it is still this worker's.
_CHECK_S = 0.5


class Publisher:
    """While a call is on its way, what follows gathers and goes with the next one.

    While Redis does not answer, output gathers in the transcripts, bounded by the slots and their
    max_tokens, and is written in order afterwards.
    """

    def __init__(
        self,
        store: JobStore,
        lease: LeaseKeeper,
        jobs: RunningJobs,
        telemetry: Telemetry,
        *,
        on_free_slot: Callable[[], None],
    ) -> None:
        self._store = store
        self._lease = lease
        self._jobs = jobs
        self._telemetry = telemetry
        self._on_free_slot = on_free_slot
        self._news = asyncio.Event()
        self._round_is_over = asyncio.Condition()
        self._backoff = Backoff()

    def take(self, outputs: Sequence[StepOutput]) -> None:
        """Add a step's outputs; those of jobs that are no longer here are nobody's."""
        failpoint("sampled")
        now = time.monotonic()
        for output in outputs:
            running = self._jobs.get(output.request_id)
            if running is not None:
                running.take(output)
                self._measure(running, output, now)
        self._news.set()

    def _measure(self, running: RunningJob, output: StepOutput, now: float) -> None:
        if not any(choice.token_ids for choice in output.choices):
            return
        last, running.last_made_at = running.last_made_at, now
        self._telemetry.made_final(
            running.job, now - running.claimed_at, None if last is None else now - last
        )

    def wake(self, running: RunningJob | None = None) -> None:
        """There is news; of `running` it is asked at once whether it is still this worker's."""
        if running is not None:
            running.checked_at = -math.inf
        self._news.set()

    async def run(self) -> None:
        """Write, for ever."""
        while True:
            try:
                async with asyncio.timeout(self._next_check_s()):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._news.clear()
            await self._round()
            async with self._round_is_over:
                self._round_is_over.notify_all()

    async def flush(self) -> None:
        """Return when everything is written."""
        while any(running.has_news for running in self._jobs):
            self._news.set()
            async with self._round_is_over:
                await self._round_is_over.wait()

    def _next_check_s(self) -> float | None:
        now = time.monotonic()
        longest = max((running.unchecked_s(now) for running in self._jobs), default=None)
        return None if longest is None else max(0.0, _CHECK_S - longest)

    async def _round(self) -> None:
        now = time.monotonic()
        due = [job for job in self._jobs if job.has_news or job.unchecked_s(now) >= _CHECK_S]
        if not due:
            return
        try:
            for running in due:
                if not running.is_sure:
                    await self._look(running)
            batch = [running.append() for running in due]
            asked_at = time.perf_counter()
            _pass_by(batch, "appending", "ending")
            answers = await self._store.append(self._lease.incarnation, batch)
            _pass_by(batch, "appended", "ended")
            self._telemetry.publish.observe(time.perf_counter() - asked_at)
        except StoreUnavailable as error:
            logger.warning("output of %d jobs waits: %s", len(due), error)
            for running in due:
                running.is_sure = False
            self._news.set()
            await self._backoff.sleep()
            return
        self._backoff.reset()
        for running, append, answer in zip(due, batch, answers, strict=True):
            running.checked_at = now
            self._settle(running, append, answer)
        failpoint("settled")

    async def _look(self, running: RunningJob) -> None:
        """Learn from the stream what it holds: a call may have been lost before or after it was carried out,
        and Redis may have lost the stream's end."""
        entries = await self._store.entries(running.job.id)
        running.released = Transcript.of(entries, running.job.n).progress
        running.is_sure = True

    def _settle(self, running: RunningJob, append: Append, answer: AppendAnswer) -> None:
        match answer.kind:
            case "end" if answer.positions == append.end and append.terminal is None:
                running.confirm(append)
            case "end":
                running.is_sure = False
                self._news.set()
            case "closed":
                self._jobs.close(running)
                failpoint("closed")
                self._on_free_slot()
            case "not yours" | "gone":
                failpoint("taken_away")
                self._jobs.drop(running, "taken away")
                self._on_free_slot()


def _pass_by(batch: Sequence[Append], with_output: Name, with_end: Name) -> None:
    if any(append.output is not None for append in batch):
        failpoint(with_output)
    if any(append.terminal is not None for append in batch):
        failpoint(with_end)

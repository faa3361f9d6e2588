"""Publisher: writes what the backend makes to the jobs' streams, one call at a time for all of them."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from contextlib import suppress

from shared.errors import StoreUnavailable
from shared.runtime.failpoint import Name, failpoint
from shared.store.append import Append, AppendAnswer
from shared.store.job_store import JobStore
from workers.backends.backend import StepOutput
from workers.runtime.backoff import Backoff
from workers.runtime.health.telemetry import Telemetry
from workers.runtime.running_job import RunningJob, RunningJobs
from workers.runtime.transcript import Transcript

logger = logging.getLogger(__name__)

#: A stream waits so long after each piece for every job that runs here, in seconds, and at most so long: a
#: piece costs CPU from here to the client, however many tokens it holds, so short steps of many rows go
#: together. Where few run the next step comes later than that.
_PACE_S, _MAX_PACE_S = 0.0025, 0.05


class Publisher:
    """While a call is on its way, what follows gathers and goes with the next one.

    While Redis does not answer, output gathers in the transcripts, bounded by the slots and their
    max_tokens, and is written in order afterwards.
    """

    def __init__(self, store: JobStore, jobs: RunningJobs, telemetry: Telemetry) -> None:
        self._store = store
        self._jobs = jobs
        self._telemetry = telemetry
        self._round_is_over = asyncio.Condition()
        self._backoff = Backoff()
        self._is_flushing = False

    def take(self, outputs: Sequence[StepOutput]) -> None:
        """Add a step's outputs; those of jobs that are no longer here are nobody's."""
        failpoint("sampled")
        now = time.monotonic()
        for output in outputs:
            running = self._jobs.get(output.request_id)
            if running is not None:
                running.take(output)
                self._measure(running, output, now)
        self._jobs.news.set()

    def _measure(self, running: RunningJob, output: StepOutput, now: float) -> None:
        if not any(choice.texts for choice in output.choices):
            return
        last, running.last_made_at = running.last_made_at, now
        self._telemetry.made_final(
            running.job, now - running.claimed_at, None if last is None else now - last
        )

    def wake(self, running: RunningJob | None = None) -> None:
        """There is news; of `running` it is asked at once whether it is still this worker's."""
        if running is not None:
            running.checked_at = -math.inf
        self._jobs.news.set()

    async def run(self) -> None:
        """Write, for ever."""
        while True:
            self._jobs.news.clear()
            now, pace_s = time.monotonic(), self._pace_s
            due_at = {running: running.due_at(pace_s) for running in self._jobs}
            due = [running for running, at in due_at.items() if at <= now]
            if due:
                await self._write(due, now)
                async with self._round_is_over:
                    self._round_is_over.notify_all()
            else:
                await self._rest(min(due_at.values(), default=math.inf) - now)

    async def flush(self) -> None:
        """Return when everything is written."""
        self._is_flushing = True
        while any(running.has_new_output for running in self._jobs):
            self._jobs.news.set()
            async with self._round_is_over:
                await self._round_is_over.wait()

    @property
    def _pace_s(self) -> float:
        return 0.0 if self._is_flushing else min(_PACE_S * len(self._jobs), _MAX_PACE_S)

    async def _rest(self, seconds: float) -> None:
        """Until there is news, or for so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                await self._jobs.news.wait()

    async def _write(self, due: Sequence[RunningJob], now: float) -> None:
        try:
            for running in due:
                if not running.is_sure:
                    await self._look(running)
            # At one moment: a job that ends while results are stored ends in the next round, with its own.
            results = [
                (running, result) for running in due if (result := running.unstored_result()) is not None
            ]
            batch = [running.append() for running in due]
            await self._keep(results)
            asked_at = time.perf_counter()
            _pass_by(batch, "appending", "ending")
            answers = await self._store.append(batch)
            _pass_by(batch, "appended", "ended")
            self._telemetry.publish.observe(time.perf_counter() - asked_at)
        except StoreUnavailable as error:
            logger.warning("output of %d jobs waits: %s", len(due), error)
            for running in due:
                running.doubt()
            await self._backoff.sleep()
            return
        self._backoff.reset()
        for running, append, answer in zip(due, batch, answers, strict=True):
            running.checked_at = now
            self._settle(running, append, answer)
        failpoint("settled")

    async def _keep(self, results: Sequence[tuple[RunningJob, bytes]]) -> None:
        """Store what jobs that end now have made: in calls of their own, since it may be long."""
        if results:
            await asyncio.gather(
                *[self._store.keep_result(run.job.id, run.claim_token, result) for run, result in results]
            )
            failpoint("result_kept")

    async def _look(self, running: RunningJob) -> None:
        """Learn from the stream what it holds: a call may have been lost before or after it was carried out,
        and Redis may have lost the stream's end."""
        entries = await self._store.entries(running.job.id)
        running.learn(Transcript.of(entries, running.job.n))

    def _settle(self, running: RunningJob, append: Append, answer: AppendAnswer) -> None:
        match answer.kind:
            case "end" if answer.positions == append.end and append.terminal is None:
                running.confirm(append)
            case "end":
                running.doubt()
            case "closed":
                self._jobs.close(running)
                failpoint("closed")
            case "not yours" | "gone":
                failpoint("taken_away")
                self._jobs.drop(running, "taken away")


def _pass_by(batch: Sequence[Append], with_output: Name, with_end: Name) -> None:
    if any(append.output is not None for append in batch):
        failpoint(with_output)
    if any(append.terminal is not None for append in batch):
        failpoint(with_end)

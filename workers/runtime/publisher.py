"""Publisher: writes the backend's output to the jobs' streams, one call at a time for all jobs."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from contextlib import suppress

from shared.errors import DecodeError, ScriptFailed, StoreUnavailable
from shared.runtime.failpoint import Name, failpoint
from shared.store.append import Append, AppendAnswer
from shared.store.job_store import JobStore
from workers.backends.backend import StepOutput
from workers.runtime.backoff import Backoff
from workers.runtime.claimer import UNREADABLE_JOB
from workers.runtime.health.telemetry import Telemetry
from workers.runtime.running_job import RunningJob, RunningJobs
from workers.runtime.transcript import Transcript

logger = logging.getLogger(__name__)

#: Time between two writes to a stream, in seconds for each job that runs here, and its maximum. Each write costs CPU
#: time from here to the client, however many tokens it has, so the short steps of a large batch are written together.
#: With few jobs, a step takes longer than this.
_PACE_S, _MAX_PACE_S = 0.0025, 0.05


class Publisher:
    """Output that arrives during a call is written with the next one.

    While Redis does not answer, output is kept in the transcripts, whose size is bounded by the slots and max_tokens.
    It is written in order afterwards.
    """

    def __init__(self, store: JobStore, jobs: RunningJobs, telemetry: Telemetry) -> None:
        self._store = store
        self._jobs = jobs
        self._telemetry = telemetry
        self._round_is_over = asyncio.Condition()
        self._backoff = Backoff()
        self._is_flushing = False
        #: Claim tokens of jobs on whose records a script failed.
        self._damaged: set[str] = set()

    def take(self, outputs: Sequence[StepOutput]) -> None:
        """Add the outputs of a step. Outputs of jobs that are no longer here are dropped."""
        failpoint("sampled")
        now = time.monotonic()
        for output in outputs:
            running = self._jobs.get(output.request_id)
            if running is not None:
                running.take(output)
                self._measure(running, output, now)
        self._jobs.may_publish.set()

    def _measure(self, running: RunningJob, output: StepOutput, now: float) -> None:
        if not any(choice.texts for choice in output.choices):
            return
        last, running.last_made_at = running.last_made_at, now
        self._telemetry.made_final(
            running.job, now - running.claimed_at, None if last is None else now - last
        )

    def wake(self, running: RunningJob | None = None) -> None:
        """Start a round. It checks whether `running` still belongs to this worker."""
        if running is not None:
            running.checked_at = -math.inf
        self._jobs.may_publish.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            self._jobs.may_publish.clear()
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
        """Write everything, and return when it is written."""
        self._is_flushing = True
        while any(running.has_new_output for running in self._jobs):
            self._jobs.may_publish.set()
            async with self._round_is_over:
                await self._round_is_over.wait()

    @property
    def _pace_s(self) -> float:
        return 0.0 if self._is_flushing else min(_PACE_S * len(self._jobs), _MAX_PACE_S)

    async def _rest(self, seconds: float) -> None:
        """Wait until there is new output, but at most for this time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                await self._jobs.may_publish.wait()

    async def _write(self, due: Sequence[RunningJob], now: float) -> None:
        try:
            for running in due:
                if not running.is_sure:
                    await self._look(running)
            due = [running for running in due if self._jobs.get(running.claim_token) is running]
            if not due:
                return
            # No `await` from here to `batch`: a job that ends while results are stored is ended in the next round,
            # after its own result is stored.
            results = [
                (running, result) for running in due if (result := running.unstored_result()) is not None
            ]
            batch = [running.append() for running in due]
            await self._keep(results)
            asked_at = time.perf_counter()
            _pass_by(batch, "appending", "ending")
            answers = await self._append(batch)
            _pass_by(batch, "appended", "ended")
            self._telemetry.publish.observe(time.perf_counter() - asked_at)
        except StoreUnavailable as error:
            logger.warning("cannot write the output of %d jobs: %s", len(due), error)
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
        """Store the results of jobs that end now. Each gets a call of its own, because it may be long."""
        if results:
            await asyncio.gather(
                *[self._store.keep_result(run.job.id, run.claim_token, result) for run, result in results]
            )
            failpoint("result_kept")

    async def _append(self, batch: Sequence[Append]) -> list[AppendAnswer]:
        """Write all. A job whose record is damaged must not keep back the output of the others."""
        try:
            return await self._store.append(batch)
        except ScriptFailed:
            answers: list[AppendAnswer] = []
            for append in batch:
                try:
                    answers += await self._store.append([append])
                except ScriptFailed:
                    answers.append(AppendAnswer("unreadable"))
                    self._damaged.add(append.claim_token)
            return answers

    async def _look(self, running: RunningJob) -> None:
        """Read the stream to learn what it has, or end a job whose stream or record cannot be used.

        A call whose reply was lost may have succeeded or not, and Redis may have lost the end of the stream.
        """
        try:
            if running.claim_token in self._damaged:
                raise DecodeError("record", running.job.id)
            entries = await self._store.entries(running.job.id)
            running.learn(Transcript.of(entries, running.job.n))
        except DecodeError as error:
            logger.error("%s: %s", running.job.id, error)
            with suppress(ScriptFailed):  # then nobody can end it
                await self._store.fail(running.job.id, UNREADABLE_JOB)
            self._damaged.discard(running.claim_token)
            self._jobs.drop(running, "cannot be read")

    def _settle(self, running: RunningJob, append: Append, answer: AppendAnswer) -> None:
        match answer.kind:
            case "end" if answer.positions == append.end and append.terminal is None:
                running.confirm(append)
            case "end" | "unreadable":
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

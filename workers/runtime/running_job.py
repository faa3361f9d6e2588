"""RunningJob: a job of this worker, from its claim until it ends or is taken away."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator

from shared.domain.events import Completed, Failed, Incomplete, event_type
from shared.domain.job import Job
from shared.domain.result import MAX_STORED_BYTES, Result
from shared.errors import ErrorInfo
from shared.store.append import Append, Resolved
from workers.backends.backend import Backend, StepOutput
from workers.celery_app.pending_task import PendingTask
from workers.runtime.health.telemetry import Telemetry
from workers.runtime.transcript import Transcript

logger = logging.getLogger(__name__)

#: A job without new output is checked at this interval: does it still belong to this worker?
_CHECK_S = 0.5


class RunningJob:
    """One claim of one job. Used only in the event loop's thread."""

    def __init__(self, job: Job, claim_token: str, wake_up: PendingTask | None) -> None:
        self.job = job
        #: Identifies this claim for the store and the backend.
        self.claim_token = claim_token
        #: None if the wake-up was revoked during the claim.
        self.wake_up = wake_up
        #: None before the request is resolved, and if nothing is left to generate.
        self.resolved: Resolved | None = None
        self.transcript = Transcript(job.n)
        #: What the stream has, as far as this worker knows.
        self.released = self.transcript.progress
        #: False after a reply of the store was lost. The stream must be read then.
        self.is_sure = True
        self.error: ErrorInfo | None = None
        #: When the store last confirmed that the job belongs to this worker, on the monotonic clock.
        self.checked_at = self.claimed_at = time.monotonic()
        #: When a step last produced output. None: not yet.
        self.last_made_at: float | None = None
        self._is_begun = False
        self._is_resolved_stored = job.raw_resolved is not None
        self._is_result_stored = False

    @property
    def terminal(self) -> Completed | Incomplete | Failed | None:
        """The event that ends the job. None: the job has not ended."""
        if self.error is not None:
            return Failed(self.error)
        if not self.transcript.is_finished:
            return None
        reasons = {finish.reason for finish in self.transcript.finishes if finish is not None}
        return Incomplete() if "length" in reasons else Completed()

    @property
    def status(self) -> str:
        """For people: the name of the terminal event, or `running`."""
        return "running" if self.terminal is None else event_type(self.terminal)

    @property
    def has_new_output(self) -> bool:
        """Whether there is something to append. False before the stream was read.

        The end of a choice is sent with the next unit of any choice, or with the job's end. So each append moves the
        positions, by which the store recognizes a repeated one.
        """
        has_progress = self.transcript.positions != self.released.positions
        return self._is_begun and (has_progress or self.terminal is not None)

    def due_at(self, pace_s: float) -> float:
        """When to write next, on the monotonic clock.

        The first output and the end are written at once, other output `pace_s` after the last write. Without new output
        a check is due.
        """
        if not self._is_begun:
            return math.inf
        if not self.has_new_output:
            return self.checked_at + _CHECK_S
        is_urgent = not any(self.released.positions) or self.terminal is not None
        return -math.inf if is_urgent else self.checked_at + pace_s

    def take(self, output: StepOutput) -> None:
        """Add the backend's output."""
        self.transcript.take(output.choices, output.used)
        self.error = self.error or output.error

    def begin(self, transcript: Transcript) -> None:
        """Start with the stream's content."""
        self._is_begun = True
        self.transcript = transcript
        self.released = transcript.progress

    def append(self) -> Append:
        """Return what to write now. Without new output it is a check."""
        has_new_output = self.has_new_output
        return Append(
            job_id=self.job.id,
            claim_token=self.claim_token,
            start=self.released.positions,
            end=self.transcript.positions,
            used=self.transcript.used,
            output=self.transcript.since(self.released) if has_new_output else None,
            resolved=None if self._is_resolved_stored else self.resolved,
            terminal=self.terminal,
        )

    def confirm(self, append: Append) -> None:
        """Note that `append` was written."""
        if append.output is not None:
            self.released = self.released.after(append.output.choices)
        self._is_resolved_stored |= append.resolved is not None

    def doubt(self) -> None:
        """Note that a reply of the store was lost or unexpected, so the stream may have more or less than is known."""
        self.is_sure = self._is_result_stored = False

    def learn(self, stream: Transcript) -> None:
        """Note the stream's content."""
        self.released = stream.progress
        self.is_sure = True

    def unstored_result(self) -> bytes | None:
        """Return the complete output, to be stored before the job is ended. None: nothing is to be stored now."""
        if self._is_result_stored or not isinstance(self.terminal, Completed | Incomplete):
            return None
        self._is_result_stored = True
        result = Result.empty(self.job.n)
        result.take(self.transcript.so_far())
        result.used = self.transcript.used
        encoded = result.encode()
        return encoded if len(encoded) <= MAX_STORED_BYTES else None


class RunningJobs:
    """All running jobs of this worker, by claim token."""

    def __init__(self, backend: Backend, telemetry: Telemetry, *, slots: int) -> None:
        self._backend = backend
        self._telemetry = telemetry
        self.slots = slots
        self._jobs: dict[str, RunningJob] = {}
        #: Set when a job may have something to write. The publisher clears it.
        self.may_publish = asyncio.Event()
        #: Set when a slot or a wake-up may have become available. The claimer clears it.
        self.may_claim = asyncio.Event()

    def __iter__(self) -> Iterator[RunningJob]:
        return iter(list(self._jobs.values()))

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def num_free_slots(self) -> int:
        """How many sequences could start now. Negative if a job with several choices took more slots than were free."""
        return self.slots - sum(running.job.n for running in self)

    @property
    def claim_tokens(self) -> dict[str, str]:
        """The claim token of each job."""
        return {running.job.id: running.claim_token for running in self._jobs.values()}

    @property
    def num_wake_ups(self) -> int:
        return sum(running.wake_up is not None for running in self._jobs.values())

    def get(self, claim_token: str) -> RunningJob | None:
        return self._jobs.get(claim_token)

    def with_wake_up(self, wake_up: PendingTask) -> RunningJob | None:
        return next((running for running in self._jobs.values() if running.wake_up is wake_up), None)

    def add(self, running: RunningJob) -> None:
        self._jobs[running.claim_token] = running
        self._telemetry.claimed(running.job)
        logger.info("%s claimed, attempt %d", running.job.id, running.job.attempts)

    def close(self, running: RunningJob) -> None:
        """Remove a job that this worker has ended."""
        if self._jobs.pop(running.claim_token, None) is None:
            return
        self.may_claim.set()
        self._telemetry.ended(running.status)
        logger.info("%s %s", running.job.id, running.status)
        if running.error is not None:
            # The backend may still run the job. If it does not know the job, this does nothing.
            self._backend.abort(running.claim_token)
        if running.wake_up is not None and running.error is not None:
            running.wake_up.fail(f"{running.job.id} {running.error.code or running.error.type}")
        elif running.wake_up is not None:
            running.wake_up.end(f"{running.job.id} {running.status}")

    def drop(self, running: RunningJob, why: str) -> None:
        """Remove a job that no longer belongs to this worker."""
        if self._jobs.pop(running.claim_token, None) is None:
            return
        self.may_claim.set()
        self._telemetry.ended("left")
        logger.info("%s %s", running.job.id, why)
        self._backend.abort(running.claim_token)
        if running.wake_up is not None:
            running.wake_up.end(f"{running.job.id} {why}")

"""Preemptor: gives slots of low jobs to high jobs when no slot is free."""

from __future__ import annotations

import asyncio

from workers.runtime.claimer import Claimer
from workers.runtime.running_job import RunningJob, RunningJobs

#: Interval at which a full worker looks for high jobs, in seconds.
_LOOK_S = 0.5
#: Maximum number of preemptions of a job. claim.lua enforces this limit and the next one.
MAX_PREEMPTIONS = 3
#: Number of tokens that a job generates after a claim before it can be preempted.
TOKENS_BEFORE_PREEMPTION = 32


class Preemptor:
    """Preempts one job at a time: the one that was accepted last, which has the fewest jobs behind it."""

    def __init__(self, jobs: RunningJobs, claimer: Claimer) -> None:
        self._jobs = jobs
        self._claimer = claimer

    async def run(self) -> None:
        """Look for high jobs until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._jobs.num_free_slots < 1 and (
                preemptable := [job for job in self._jobs if may_preempt(job)]
            ):
                await self._claimer.claim_instead_of(
                    max(preemptable, key=lambda running: running.job.created_at)
                )


def may_preempt(running: RunningJob) -> bool:
    """Whether the store might preempt this job: a low one with enough new tokens and few enough preemptions."""
    job = running.job
    num_new = sum(running.released.positions) - sum(job.end)
    is_over = running.terminal is not None
    return (
        job.priority == "low"
        and job.num_preemptions < MAX_PREEMPTIONS
        and num_new >= TOKENS_BEFORE_PREEMPTION
        and not is_over
    )

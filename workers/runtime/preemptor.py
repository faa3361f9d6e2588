"""Preemptor: lets high jobs have the places of low ones where no slot is free."""

from __future__ import annotations

import asyncio

from workers.runtime.claimer import Claimer
from workers.runtime.running_job import RunningJob, RunningJobs

#: How often a full worker looks for high jobs.
_LOOK_S = 0.5
#: A job is preempted so often at most; claim.lua holds to it, and to the tokens.
MAX_PREEMPTIONS = 3
#: Tokens that it makes before, from its claim on.
TOKENS_BEFORE_PREEMPTION = 32


class Preemptor:
    """Preempts one job at a time: the one that was accepted last, behind which fewest wait."""

    def __init__(self, jobs: RunningJobs, claimer: Claimer) -> None:
        self._jobs = jobs
        self._claimer = claimer

    async def run(self) -> None:
        """Look, for ever."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._jobs.num_free_slots < 1 and (
                preemptable := [job for job in self._jobs if may_preempt(job)]
            ):
                await self._claimer.claim_instead_of(
                    max(preemptable, key=lambda running: running.job.created_at)
                )


def may_preempt(running: RunningJob) -> bool:
    """Whether it is worth to ask: a low job that has made some tokens here and was not preempted too often."""
    job = running.job
    made = sum(running.released.positions) - sum(job.end)
    is_over = running.terminal is not None
    return (
        job.priority == "low"
        and job.num_preemptions < MAX_PREEMPTIONS
        and made >= TOKENS_BEFORE_PREEMPTION
        and not is_over
    )

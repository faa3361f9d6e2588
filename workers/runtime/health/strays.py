"""Strays: jobs that the store believes to run here although their claim's answer was lost on the way."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.wake_up import WakeUp
from shared.runtime.failpoint import failpoint
from shared.store.job_store import JobStore
from workers.runtime.claimer import UNREADABLE_JOB, Claimer
from workers.runtime.running_job import RunningJobs

logger = logging.getLogger(__name__)


class Strays:
    """Gives them back. A job that is being claimed is named as well, until its answer is here: only what two beats in
    a row name, with no claim on its way, is a stray."""

    def __init__(
        self, store: JobStore, sender: WakeUpSender, jobs: RunningJobs, claimer: Claimer, *, model: str
    ) -> None:
        self._store = store
        self._sender = sender
        self._jobs = jobs
        self._claimer = claimer
        self._model = model
        #: Jobs, with claim tokens, that the last beat's answer named and that do not run here.
        self._named: set[tuple[str, str]] = set()

    def forget(self) -> None:
        """Nothing was named so far: the worker began anew, or a claim is on its way."""
        self._named.clear()

    async def settle(self, unknown: Mapping[str, str]) -> None:
        """Take what a beat's answer named. Raises StoreUnavailable."""
        if self._claimer.is_claiming:
            return self.forget()
        # Meanwhile others may have been claimed and told.
        strays = set(unknown.items()) - set(self._jobs.claim_tokens.items())
        for job_id, claim_token in strays & self._named:
            await self._give_back(job_id, claim_token)
        self._named = strays - self._named

    async def _give_back(self, job_id: str, claim_token: str) -> None:
        if claim_token in self._claimer.unreadable:
            self._claimer.unreadable.remove(claim_token)
            await self._store.fail(job_id, UNREADABLE_JOB)
        elif await self._store.requeue(job_id, claim_token, "given_back") == "requeued":
            failpoint("given_back")
            logger.warning("%s was claimed without an answer and is given back", job_id)
            await self._sender.send([WakeUp(job_id, self._model)])

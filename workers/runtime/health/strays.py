"""Strays: returns jobs that the store assigned to this worker in a reply that was lost."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.wake_up import WakeUp
from shared.errors import ScriptFailed
from shared.runtime.failpoint import failpoint
from shared.store.job_store import JobStore
from workers.runtime.claimer import UNREADABLE_JOB, Claimer
from workers.runtime.running_job import RunningJobs

logger = logging.getLogger(__name__)


class Strays:
    """Queues strays again.

    The reply to a heartbeat also names a job that is just being claimed. So a job counts as a stray only if two replies
    in a row name it and no claim is under way.
    """

    def __init__(
        self, store: JobStore, sender: WakeUpSender, jobs: RunningJobs, claimer: Claimer, *, model: str
    ) -> None:
        self._store = store
        self._sender = sender
        self._jobs = jobs
        self._claimer = claimer
        self._model = model
        #: Jobs and claim tokens that the last reply named and that do not run here.
        self._named: set[tuple[str, str]] = set()

    def forget(self) -> None:
        """Start again: the worker has a new lease, or a claim is under way."""
        self._named.clear()

    async def settle(self, unknown: Mapping[str, str]) -> None:
        """Handle the strays of a heartbeat's reply. Raises StoreUnavailable."""
        if self._claimer.is_claiming:
            return self.forget()
        # Jobs may have been claimed since the heartbeat was sent.
        strays = set(unknown.items()) - set(self._jobs.claim_tokens.items())
        for job_id, claim_token in strays & self._named:
            try:
                await self._give_back(job_id, claim_token)
            except ScriptFailed as error:
                logger.error("%s cannot be given back: %s", job_id, error)
        self._named = strays - self._named

    async def _give_back(self, job_id: str, claim_token: str) -> None:
        if claim_token in self._claimer.unreadable:
            self._claimer.unreadable.remove(claim_token)
            await self._store.fail(job_id, UNREADABLE_JOB)
        elif await self._store.requeue(job_id, claim_token, "given_back") == "requeued":
            failpoint("given_back")
            logger.warning("%s is queued again: the reply to its claim was lost", job_id)
            await self._sender.send([WakeUp(job_id, self._model)])

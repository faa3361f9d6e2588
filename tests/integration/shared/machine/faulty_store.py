"""FaultyStore: a JobStore whose next call may be carried out twice, or be carried out and not answered."""

from __future__ import annotations

from collections import deque
from typing import Any, Literal

from redis.asyncio import Redis

from shared.errors import StoreUnavailable
from shared.store.job_store import JobStore
from shared.store.scripts import ScriptName

Fault = Literal["none", "twice", "lost", "unsent"]

#: Calls that can still lie in a connection when later ones have been carried out.
_LATE = 12


class FaultyStore(JobStore):
    """Does to the next call what `fault` says."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.fault: Fault = "none"
        self.sent: deque[tuple[ScriptName, tuple[str | int | float, ...]]] = deque(maxlen=_LATE)

    async def _call(self, name: ScriptName, *args: str | int | float) -> Any:
        fault, self.fault = self.fault, "none"
        if fault == "unsent":
            raise StoreUnavailable("not sent")
        answer = await super()._call(name, *args)
        self.sent.append((name, args))
        if fault == "twice":
            answer = await super()._call(name, *args)
        if fault == "lost":
            raise StoreUnavailable("the answer was lost")
        return answer

    async def repeat(self, number: int) -> None:
        """Carry out, once more and unseen, a call that was on its way when its connection broke.

        Not of a job that is forgotten: nothing is on its way for as long as a job is kept.
        """
        name, args = self.sent[number % len(self.sent)]
        if name != "create" or await self.get(str(args[0])) is not None:
            await super()._call(name, *args)

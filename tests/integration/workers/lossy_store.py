"""A store whose answers can be lost: the script was carried out, and the caller does not learn of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from shared.errors import StoreUnavailable
from shared.store.job_store import JobStore
from shared.store.scripts import ScriptName


class LossyStore(JobStore):
    """A JobStore that loses the next answers of the scripts named in `losses`."""

    losses: Counter[str]
    #: How often each script was called.
    calls: Counter[str]

    @classmethod
    def of(cls, store: JobStore) -> LossyStore:
        lossy = cls(store._redis)
        lossy.losses, lossy.calls = Counter(), Counter()
        return lossy

    async def _call(self, name: ScriptName, *args: str | int | float) -> Any:
        answer = await super()._call(name, *args)
        self.calls[name] += 1
        if self.losses[name] > 0:
            self.losses[name] -= 1
            raise StoreUnavailable(f"the answer of {name} was lost")
        return answer

"""Models: which model names are known, and which of them a living worker serves."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from shared.errors import RequestError, StoreUnavailable, invalid_request
from shared.store.job_store import JobStore

#: Names that an error lists.
_MAX_SHOWN = 10


class ServedModel(NamedTuple):
    """A model that requests can name now."""

    name: str
    #: When a worker first registered it, in seconds since the epoch.
    created: int
    #: Maximum number of tokens of prompt and answer together, with any of its workers. None: unknown.
    max_model_len: int | None


class Models:
    """The configured model and every one that a worker has ever registered."""

    def __init__(self, store: JobStore, configured: str) -> None:
        self._store = store
        self.configured = configured
        # Models are only ever added: a name that was known once needs no further look.
        self._known = frozenset({configured})

    async def all(self) -> list[str]:
        """Their names, the configured one first. Raises StoreUnavailable."""
        self._known |= await self._store.models()
        return [self.configured, *sorted(self._known - {self.configured})]

    async def require(self, model: str) -> None:
        """Raises RequestError (404) for a model that was never served here, StoreUnavailable."""
        if model not in self._known and model not in await self.all():
            raise _unknown(model, await self.all())

    async def served(self) -> list[ServedModel]:
        """Those that living workers serve, the configured one first. Raises StoreUnavailable."""
        workers, times = await asyncio.gather(self._store.workers(), self._store.model_times())
        names = sorted({worker.model for worker in workers}, key=lambda name: (name != self.configured, name))
        return [
            ServedModel(
                name,
                times.get(name, 0) // 1000,
                min((w.max_model_len for w in workers if w.model == name and w.max_model_len), default=None),
            )
            for name in names
        ]

    async def is_served(self, model: str) -> bool:
        """Whether a living worker serves it. Raises StoreUnavailable."""
        return any(worker.model == model for worker in await self._store.workers())

    async def may_be_served(self, model: str) -> bool:
        """The same; True while Redis does not answer."""
        try:
            return await self.is_served(model)
        except StoreUnavailable:
            return True


def _unknown(model: str, served: list[str]) -> RequestError:
    names = ", ".join([f"'{name}'" for name in served[:_MAX_SHOWN]]) + (
        ", …" if len(served) > _MAX_SHOWN else ""
    )
    message = f"The model '{model[:200]}' does not exist. This server serves {names}."
    return invalid_request(message, param="model", code="model_not_found", status=404)

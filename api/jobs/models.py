"""Models: which names are known, and which of them a living worker serves."""

from __future__ import annotations

from shared.errors import RequestError, StoreUnavailable, invalid_request
from shared.store.job_store import JobStore


class Models:
    """The configured model and every one that a worker has ever registered."""

    def __init__(self, store: JobStore, configured: str) -> None:
        self._store = store
        self.configured = configured
        # Models are only ever added: what was known once needs no further look.
        self._known = frozenset({configured})

    async def all(self) -> list[str]:
        """Their names, the configured one first. Raises StoreUnavailable."""
        self._known |= await self._store.models()
        return [self.configured, *sorted(self._known - {self.configured})]

    async def require(self, model: str) -> None:
        """Raises RequestError (404) for a model that nobody knows."""
        if model not in self._known and model not in await self.all():
            raise unknown_model(model)

    async def is_served(self, model: str) -> bool:
        """Whether a living worker serves it. Raises StoreUnavailable."""
        return any(worker.model == model for worker in await self._store.workers())

    async def may_be_served(self, model: str) -> bool:
        """The same; while Redis is away nobody knows, and it may."""
        try:
            return await self.is_served(model)
        except StoreUnavailable:
            return True


def unknown_model(model: str) -> RequestError:
    """404, as OpenAI says it."""
    message = f"The model '{model[:200]}' does not exist or you do not have access to it."
    return invalid_request(message, param="model", code="model_not_found", status=404)

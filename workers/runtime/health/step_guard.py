"""StepGuard: ends the worker when its backend hangs."""

from __future__ import annotations

import asyncio

from workers.backends.backend import Backend

_LOOK_S = 0.5
#: A backend that has work and does no step for this long is considered hung.
STEP_TIMEOUT_S = 60.0


class BackendStalled(Exception):
    """Raised when the backend has had work and has done no step for the step timeout."""


class StepGuard:
    """Checks the backend twice a second."""

    def __init__(self, backend: Backend, *, timeout_s: float = STEP_TIMEOUT_S) -> None:
        self._backend = backend
        self._timeout_s = timeout_s

    async def run(self) -> None:
        """Check until cancelled. Raises BackendStalled."""
        while (stalled_s := self._backend.stalled_s) <= self._timeout_s:
            await asyncio.sleep(_LOOK_S)
        raise BackendStalled(f"no step for {stalled_s:.0f} s")

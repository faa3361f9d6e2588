"""StreamLimiter: limits how many responses one API key reads at once from one replica."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import invalid_request


class StreamLimiter:
    """Counts the readers of each owner."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count: Counter[str] = Counter()

    @contextmanager
    def admitted(self, owner: str) -> Iterator[None]:
        """One more reader while the context lasts. Raises RequestError (429)."""
        if self._count[owner] >= self._most:
            message = (
                f"This API key is reading {self._most} responses, the maximum. Try again when one has ended."
            )
            raise invalid_request(message, code="rate_limit_exceeded", status=429)
        self._count[owner] += 1
        try:
            yield
        finally:
            self._count[owner] -= 1
            if not self._count[owner]:
                del self._count[owner]

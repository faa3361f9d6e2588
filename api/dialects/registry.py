"""Dialects: the dialects that one process speaks."""

from __future__ import annotations

from collections.abc import Iterable

from api.dialects.base import Dialect
from shared.errors import ErrorInfo, RequestError


class Dialects:
    """Finds dialects by endpoint."""

    def __init__(self, dialects: Iterable[Dialect]) -> None:
        self._by_endpoint = {dialect.endpoint: dialect for dialect in dialects}

    @property
    def endpoints(self) -> list[str]:
        return list(self._by_endpoint)

    def find(self, endpoint: str) -> Dialect | None:
        """None for an endpoint of a newer version."""
        return self._by_endpoint.get(endpoint)

    def of(self, endpoint: str) -> Dialect:
        """Raises RequestError (503) for an endpoint of a newer version: another replica may have it."""
        dialect = self.find(endpoint)
        if dialect is None:
            message = (
                f"This replica cannot show jobs of the endpoint '{endpoint}'. Try again to reach another one."
            )
            raise RequestError(ErrorInfo(message, code="endpoint_unknown", status=503))
        return dialect

    def of_path(self, path: str) -> Dialect | None:
        """The dialect to whose routes a path belongs."""
        for endpoint, dialect in self._by_endpoint.items():
            if path == endpoint or path.startswith(endpoint + "/"):
                return dialect
        return None

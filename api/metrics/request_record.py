"""RequestRecord: one request from its arrival to the end of its response, as logs and metrics report it."""

from __future__ import annotations

import time
from typing import Any

from starlette.types import Message, Scope

from api.errors import ERROR_CODE

#: Members of the request's state through which the app reports them.
STARTED_AT, JOB_ID = "started_at", "job_id"


class RequestRecord:
    """Observes the response."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._state: dict[str, Any] = scope.setdefault("state", {})
        #: When it arrived, by time.perf_counter.
        self.started_at = self._state[STARTED_AT] = time.perf_counter()
        #: None while no response has begun.
        self.status: int | None = None
        self.is_stream = False
        #: Whether the response was sent completely.
        self.is_complete = False

    def see(self, message: Message) -> None:
        """A message on its way to the client."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.is_stream = (b"content-type", b"text/event-stream") in message["headers"]
        elif message["type"] == "http.response.body":
            self.is_complete = not message.get("more_body", False)

    @property
    def method(self) -> str:
        return str(self._scope["method"])

    @property
    def route(self) -> str:
        """The route's template, which contains neither ids nor tickets; `none` if no route matches."""
        return str(getattr(self._scope.get("route"), "path", "none"))

    @property
    def duration_s(self) -> float:
        """Up to now."""
        return time.perf_counter() - self.started_at

    @property
    def job_id(self) -> str | None:
        return self._state.get(JOB_ID)

    @property
    def error_code(self) -> str | None:
        """The code of the error that the client got."""
        return self._state.get(ERROR_CODE)

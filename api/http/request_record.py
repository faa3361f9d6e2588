"""RequestRecord: one request from its arrival to the end of its answer, as logs and metrics tell it."""

from __future__ import annotations

import time
from typing import Any

from starlette.types import Message, Scope

#: Members of the request's state by which the app tells of it.
STARTED_AT, JOB_ID, ERROR_CODE = "started_at", "job_id", "error_code"


class RequestRecord:
    """Watches what is sent."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._state: dict[str, Any] = scope.setdefault("state", {})
        #: When it came, by time.perf_counter.
        self.started_at = self._state[STARTED_AT] = time.perf_counter()
        #: None while no answer has begun.
        self.status: int | None = None
        self.is_stream = False
        #: Whether the answer was sent to its end.
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
        """The route's template, which holds neither ids nor tickets; `none` when no route fits."""
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
        """What the client was told when it was refused."""
        return self._state.get(ERROR_CODE)

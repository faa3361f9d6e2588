"""Reads a job's events with repeated short requests, for networks that do not let streams through."""

from __future__ import annotations

import json
import time
from typing import Any

from cli.client.api_client import RETRYABLE, ApiClient, ApiError, ConnectionLost, Unreachable
from cli.client.sse_client import SseEvent
from cli.client.stream_reader import PATIENCE_S
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.terminal.event_printer import ENDS, printer_for
from cli.terminal.notice import Notice

#: How long the server may wait for new events before it responds.
_HOLD_S = 10
_RETRY_S = 0.5


def poll_job(client: ApiClient, job_id: str, *, as_json: bool, cursor: str = "") -> ExitCode:
    """Prints events until the job ends. Raises CommandError if there is no such job or reading it fails."""
    printer = printer_for(as_json=as_json)
    code = ExitCode.OK
    with Notice() as notice:
        poll = _Poll(client, job_id, notice, cursor)
        while not poll.is_done:
            for event in poll.next():
                printer.show(event, json.loads(event.data))
                code = ENDS.get(event.event, code)
    return code


class _Poll:
    """The position of one reader in a job's events."""

    def __init__(self, client: ApiClient, job_id: str, notice: Notice, cursor: str) -> None:
        self._client = client
        self._path = f"/v1/jobs/{job_id}/events"
        self._notice = notice
        self._cursor = cursor
        self._is_known = False
        self.is_done = False

    def next(self) -> list[SseEvent]:
        """The new events, if any. Raises CommandError."""
        query = {"wait": str(_HOLD_S), **({"after": self._cursor} if self._cursor else {})}
        answer = self._ask(query)
        self._notice.clear()
        self._cursor, self.is_done, self._is_known = answer["cursor"], answer["done"], True
        return [SseEvent(json.dumps(e["data"]), e["event"], e["id"]) for e in answer["events"]]

    def _ask(self, query: dict[str, str]) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                answer: dict[str, Any] = self._client.call(
                    "GET", self._path, params=query, headers={"accept": "application/json"}
                )
                return answer
            except (ConnectionLost, ApiError, Unreachable) as error:
                self._check(error, deadline)
                self._notice.connection_lost(error)
            self._client.use_next_url()
            time.sleep(_RETRY_S)

    def _check(self, error: CommandError, deadline: float) -> None:
        """Raises the error again if retrying is pointless."""
        is_permanent = isinstance(error, ApiError) and error.status not in RETRYABLE
        if not self._is_known or is_permanent or time.monotonic() > deadline:
            raise error

"""Polling: a job's events by one short request after the other, where streams do not come through."""

from __future__ import annotations

import json
import time
from typing import Any

from cli.client.api_client import RETRYABLE, ApiClient, ApiError, Cut, Unreachable
from cli.client.sse_client import SseEvent
from cli.client.stream_reader import PATIENCE_S
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.terminal.event_printer import ENDS, printer_for
from cli.terminal.notice import Notice

#: How long the server may hold an answer back until there is something to tell.
_HOLD_S = 10
_AGAIN_S = 0.5


def poll_job(client: ApiClient, job_id: str, *, as_json: bool, cursor: str = "") -> ExitCode:
    """Until the job is over. Raises CommandError for one that is not there, or cannot be read on."""
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
    """Where one reader of a job stands."""

    def __init__(self, client: ApiClient, job_id: str, notice: Notice, cursor: str) -> None:
        self._client = client
        self._path = f"/v1/jobs/{job_id}/events"
        self._notice = notice
        self._cursor = cursor
        self._is_known = False
        self.is_done = False

    def next(self) -> list[SseEvent]:
        """What is new, perhaps nothing yet. Raises CommandError."""
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
            except (Cut, ApiError, Unreachable) as error:
                self._check(error, deadline)
                self._notice.cut(error)
            self._client.use_next_url()
            time.sleep(_AGAIN_S)

    def _check(self, error: CommandError, deadline: float) -> None:
        """Raises the error again when it is of no use to go on."""
        is_lasting = isinstance(error, ApiError) and error.status not in RETRYABLE
        if not self._is_known or is_lasting or time.monotonic() > deadline:
            raise error

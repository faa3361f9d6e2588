"""Reads a job's event stream to its end, reconnecting when connections or servers fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import httpx

from cli.client.api_client import RETRYABLE, ApiClient, ApiError, ConnectionLost, Unreachable
from cli.client.sse_client import SseDecoder, SseEvent
from cli.errors import CommandError

#: How long to keep trying to resume a broken stream.
PATIENCE_S = 120.0
_FIRST_WAIT_S = 0.1
_LAST_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """The request that starts a stream. `resume_path` maps a job's id to the path that resumes it."""

    method: str
    path: str
    resume_path: Callable[[str], str]
    body: dict[str, Any] | None = None
    #: Id of the last event already received.
    cursor: str = ""


class StreamReader:
    """The events of one job. The caller stops iterating at the event that ends the job."""

    def __init__(self, client: ApiClient, request: StreamRequest, *, patience_s: float = PATIENCE_S) -> None:
        self._client = client
        self._request = request
        self._patience_s = patience_s
        self._cursor = request.cursor
        self._failing_since: float | None = None
        self._wait_s = _FIRST_WAIT_S
        #: Known once the first response has arrived.
        self.job_id: str | None = None

    def events(self, on_connection_lost: Callable[[CommandError], None]) -> Iterator[SseEvent]:
        """Yields every event once. Calls `on_connection_lost` with the reason before each attempt to resume.

        Raises ApiError or Unreachable if the first request fails, and these or ConnectionLost if no later one
        succeeds in time.
        """
        while True:
            try:
                yield from self._connection()
                return
            except (ConnectionLost, ApiError, Unreachable) as error:
                self._check(error)
                on_connection_lost(error)
            self._client.use_next_url()
            time.sleep(self._wait_s)
            self._wait_s = min(2 * self._wait_s, _LAST_WAIT_S)

    def _check(self, error: CommandError) -> None:
        """Raises the error again if retrying is pointless."""
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        is_permanent = isinstance(error, ApiError) and error.status not in RETRYABLE
        if self.job_id is None or is_permanent or now - self._failing_since > self._patience_s:
            raise error

    def _connection(self) -> Iterator[SseEvent]:
        """The events of one connection. Returns if the job has no more; raises ConnectionLost if it breaks."""
        decoder = SseDecoder()
        try:
            with self._open() as response:
                self.job_id = response.headers.get("x-job-id", self.job_id)
                self._failing_since, self._wait_s = None, _FIRST_WAIT_S
                if response.status_code == 204:
                    return
                for chunk in response.iter_bytes():
                    for event in decoder.feed(chunk):
                        self._cursor = event.id or self._cursor
                        yield event
        except httpx.TransportError as error:
            raise ConnectionLost(str(error) or type(error).__name__) from error
        raise ConnectionLost("the stream ended before the job did")

    def _open(self) -> AbstractContextManager[httpx.Response]:
        headers = {"last-event-id": self._cursor} if self._cursor else {}
        request = self._request
        if self.job_id is None:
            return self._client.open(request.method, request.path, json=request.body, headers=headers)
        return self._client.open("GET", request.resume_path(self.job_id), headers=headers)


def chat_request(body: dict[str, Any]) -> StreamRequest:
    """Starts a new chat."""
    return StreamRequest("POST", "/v1/chat/completions", _chat_path, {**body, "stream": True})


def job_request(job_id: str, cursor: str = "") -> StreamRequest:
    """Follows an existing job."""
    return StreamRequest("GET", _events_path(job_id), _events_path, cursor=cursor)


def _chat_path(job_id: str) -> str:
    return f"/v1/chat/completions/chatcmpl-{job_id.removeprefix('job_')}/events"


def _events_path(job_id: str) -> str:
    return f"/v1/jobs/{job_id}/events"

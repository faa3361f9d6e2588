"""Reading: a job's stream from its start to its end, whatever happens to connections and servers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import httpx

from cli.client.api_client import RETRYABLE, ApiClient, ApiError, Cut, Unreachable
from cli.client.sse_client import SseDecoder, SseEvent
from cli.errors import CommandError

#: How long a stream that was cut is tried to be taken up again.
PATIENCE_S = 120.0
_FIRST_WAIT_S = 0.1
_LAST_WAIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Opening:
    """The request that begins a stream, and the path, of a job's id, where the stream is taken up again."""

    method: str
    path: str
    resume_path: Callable[[str], str]
    body: dict[str, Any] | None = None
    #: Id of the last event that is known already.
    cursor: str = ""


class Reading:
    """One job's events. Whoever iterates stops at the event that ends the job."""

    def __init__(self, client: ApiClient, opening: Opening, *, patience_s: float = PATIENCE_S) -> None:
        self._client = client
        self._opening = opening
        self._patience_s = patience_s
        self._cursor = opening.cursor
        self._failing_since: float | None = None
        self._wait_s = _FIRST_WAIT_S
        #: Known from the first answer on.
        self.job_id: str | None = None

    def events(self, on_cut: Callable[[CommandError], None]) -> Iterator[SseEvent]:
        """Every event once. `on_cut` is told why the stream has to be taken up again.

        Raises ApiError or Unreachable when the first request fails; they or Cut when no other one succeeds
        in time.
        """
        while True:
            try:
                yield from self._connection()
                return
            except (Cut, ApiError, Unreachable) as error:
                self._check(error)
                on_cut(error)
            self._client.use_next_url()
            time.sleep(self._wait_s)
            self._wait_s = min(2 * self._wait_s, _LAST_WAIT_S)

    def _check(self, error: CommandError) -> None:
        """Raises the error again when it is of no use to go on."""
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        is_lasting = isinstance(error, ApiError) and error.status not in RETRYABLE
        if self.job_id is None or is_lasting or now - self._failing_since > self._patience_s:
            raise error

    def _connection(self) -> Iterator[SseEvent]:
        """The events of one connection; returns when there are no more. Raises Cut when there should be."""
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
            raise Cut(str(error) or type(error).__name__) from error
        raise Cut("the stream broke off")

    def _open(self) -> AbstractContextManager[httpx.Response]:
        headers = {"last-event-id": self._cursor} if self._cursor else {}
        opening = self._opening
        if self.job_id is None:
            return self._client.open(opening.method, opening.path, json=opening.body, headers=headers)
        return self._client.open("GET", self._opening.resume_path(self.job_id), headers=headers)


def chat_opening(body: dict[str, Any]) -> Opening:
    """A new chat."""
    return Opening("POST", "/v1/chat/completions", _chat_path, {**body, "stream": True})


def job_opening(job_id: str, cursor: str = "") -> Opening:
    """A job that is there."""
    return Opening("GET", _events_path(job_id), _events_path, cursor=cursor)


def _chat_path(job_id: str) -> str:
    return f"/v1/chat/completions/chatcmpl-{job_id.removeprefix('job_')}/events"


def _events_path(job_id: str) -> str:
    return f"/v1/jobs/{job_id}/events"

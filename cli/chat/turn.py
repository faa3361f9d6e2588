"""One question of a conversation and its streamed answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from cli.client.api_client import ApiClient
from cli.client.stream_reader import StreamReader, chat_request
from cli.errors import CommandError
from cli.exit_codes import ExitCode


class ChatTurn:
    """Sends a request body; `pieces` yields the answer's text as it arrives."""

    def __init__(self, client: ApiClient, body: dict[str, Any]) -> None:
        self._client = client
        self._reader = StreamReader(client, chat_request(body))
        #: The text received so far.
        self.answer = ""
        #: Why the answer ended, `stop` or `length`; None until it has.
        self.finish_reason: str | None = None

    def pieces(self, on_connection_lost: Callable[[CommandError], None]) -> Iterator[str]:
        """Raises CommandError if the job fails or stays unreachable for too long."""
        for event in self._reader.events(on_connection_lost):
            if event.data == "[DONE]":
                return
            chunk = json.loads(event.data)
            if "error" in chunk:
                raise CommandError(str(chunk["error"]["message"]), ExitCode.FAILED)
            for choice in chunk["choices"]:
                self.finish_reason = choice["finish_reason"] or self.finish_reason
                text = choice["delta"].get("content") or ""
                self.answer += text
                yield text

    def cancel(self) -> None:
        """Cancel the job. Does nothing if its id is not known yet: the server then notices the disconnect."""
        if self._reader.job_id is not None:
            self._client.call("POST", f"/v1/jobs/{self._reader.job_id}/cancel")

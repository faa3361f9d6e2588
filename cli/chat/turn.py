"""ChatTurn: one question and its streamed answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from cli.client.api_client import ApiClient
from cli.client.stream_reader import Reading, chat_opening
from cli.errors import CommandError
from cli.exit_codes import ExitCode


class ChatTurn:
    """Begun with a request's body; `pieces` are the answer's text as it comes."""

    def __init__(self, client: ApiClient, body: dict[str, Any]) -> None:
        self._client = client
        self._reading = Reading(client, chat_opening(body))
        #: What came so far.
        self.answer = ""
        #: Why the answer ended: `stop`, `length`; None while it has not.
        self.finish_reason: str | None = None

    def pieces(self, on_cut: Callable[[CommandError], None]) -> Iterator[str]:
        """Raises CommandError when the job fails, or cannot be reached for too long."""
        for event in self._reading.events(on_cut):
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
        """End the job. Nothing happens before the server has named it: it then sees its reader leave."""
        if self._reading.job_id is not None:
            self._client.call("POST", f"/v1/jobs/{self._reading.job_id}/cancel")

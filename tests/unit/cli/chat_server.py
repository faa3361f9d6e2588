"""An API in the test's process that answers chats with given texts."""

from __future__ import annotations

import json
from typing import Any

import httpx

from cli.client.api_client import ApiClient
from cli.client.endpoint import Endpoint

JOB = "job_" + "a" * 24


class ChatServer:
    """Returns an error once all answers are used."""

    def __init__(self, *answers: str) -> None:
        self._answers = list(answers)
        #: The body of each chat request.
        self.asked: list[dict[str, Any]] = []
        #: Method and path of every request.
        self.calls: list[tuple[str, str]] = []
        self.client = ApiClient(Endpoint(("http://one",), None), httpx.MockTransport(self._handle))

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.calls.append((request.method, request.url.path))
        if request.url.path != "/v1/chat/completions":
            return httpx.Response(200, json={"data": [{"id": "m"}]})
        self.asked.append(json.loads(request.content))
        if not self._answers:
            return httpx.Response(400, json={"error": {"message": "no more"}})
        pieces = [
            *(_block(text, None) for text in self._answers.pop(0)),
            _block("", "stop"),
            "data: [DONE]\n\n",
        ]
        return httpx.Response(200, content="".join(pieces), headers={"x-job-id": JOB})


def _block(text: str, finish: str | None) -> str:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return f"data: {json.dumps({'choices': [choice]})}\n\n"

"""What the tests ask for, and how they read a stream as it comes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx

from tests.integration.api.server import MODEL
from tests.unit.api.streams import Block, blocks

CHAT = "/v1/chat/completions"


def chat(**fields: Any) -> dict[str, Any]:
    """A chat's body."""
    return {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], **fields}


def job(body: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A job's body."""
    return {"endpoint": CHAT, "body": body or chat(), **fields}


async def read_blocks(response: httpx.Response) -> AsyncIterator[Block]:
    """The blocks of a stream, one by one."""
    buffer = b""
    async for chunk in response.aiter_bytes():
        *whole, buffer = (buffer + chunk).split(b"\n\n")
        for part in whole:
            yield blocks(part + b"\n\n")[0]


async def stream(http: httpx.AsyncClient, **fields: Any) -> list[Block]:
    """A whole streamed chat."""
    response = await http.post(CHAT, json=chat(stream=True, **fields))
    assert response.status_code == 200, response.text
    return blocks(response.content)


async def resume(http: httpx.AsyncClient, completion_id: str, last_id: str | None = None) -> httpx.Response:
    """Take a chat up again."""
    headers = {} if last_id is None else {"last-event-id": last_id}
    return await http.get(f"{CHAT}/{completion_id}/events", headers=headers)


async def submit(http: httpx.AsyncClient, **fields: Any) -> str:
    """The id of a new job."""
    response = await http.post("/v1/jobs", json=job(**fields))
    assert response.status_code == 202, response.text
    job_id = response.json()["id"]
    assert isinstance(job_id, str)
    return job_id

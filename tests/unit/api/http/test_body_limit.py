"""A body is counted while it is received."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from api.errors import ClientGone
from api.http.body_limit import BodyLimitMiddleware
from shared.errors import RequestError


async def read(
    headers: list[tuple[bytes, bytes]], *parts: bytes, receipt_s: float = 5, is_whole: bool = True
) -> bytes:
    """Receive a body with a limit of 10 bytes; one that is not whole stops coming, and its client leaves
    after 50 ms."""
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": index < len(parts) - 1 or not is_whole}
        for index, part in enumerate(parts)
    ]
    body = b""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        nonlocal body
        while True:
            message = await receive()
            body += message["body"]
            if not message["more_body"]:
                return

    async def receive() -> Message:
        if not messages:
            await asyncio.sleep(0.05)
            return {"type": "http.disconnect"}
        return messages.pop(0)

    async def send(message: Message) -> None:  # noqa: ARG001
        raise AssertionError

    await BodyLimitMiddleware(app, 10, receipt_s)({"type": "http", "headers": headers}, receive, send)
    return body


async def test_a_body_within_the_limit_passes() -> None:
    assert await read([(b"content-length", b"10")], b"0123456789") == b"0123456789"
    assert await read([], b"01234", b"56789") == b"0123456789"


@pytest.mark.parametrize("length", [b"11", b"9" * 30, b"9" * 18])
async def test_a_declared_length_over_it_is_refused_unread(length: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        await read([(b"content-length", length)])
    assert caught.value.info.status == 413


async def test_a_body_without_a_length_is_refused_at_the_limit() -> None:
    with pytest.raises(RequestError) as caught:
        await read([], b"01234", b"56789", b"x", b"y")
    assert caught.value.info.status == 413


async def test_a_body_that_is_not_whole_in_time_is_refused() -> None:
    with pytest.raises(RequestError) as caught:
        await read([], b"01234", receipt_s=0.01, is_whole=False)
    assert caught.value.info.status == 408


async def test_a_client_that_leaves_before_its_body_is_whole() -> None:
    with pytest.raises(ClientGone):
        await read([], b"01234", is_whole=False)

"""A stream's bytes: pings inside blocks, `retry:` where it belongs, never a clean end before the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import Message

from api.delivery.client_watch import watch_client
from api.delivery.sse_response import SseResponse
from api.dialects.openai_chat.encoder import ChatEncoder
from api.errors import ClientGone, ShuttingDown, StreamExpired
from api.http.serving.abort import ABORT
from api.streaming.cursor import Cursor
from api.streaming.subscription import Subscription
from shared.domain.events import Completed, Entry, Output, Queued, Started
from shared.errors import RequestError
from shared.store.job_store import Reader
from tests.unit.api.streams import JOB_ID, job_info, output

READER = Reader("replica", 1)
BEGIN = [
    Entry("1-0", (0,), Queued()),
    Entry("2-0", (0,), Started("w")),
    Entry("2-1", (1,), Output((output(0, 0, "a"),))),
]
END = [
    Entry("2-2", (2,), Output((output(0, 1, "b", finish="stop"),))),
    Entry("2-3", (2,), Completed()),
]


class Client:
    """Reads a stream."""

    def __init__(self, ping_s: float = 60, *, retries: bool = False) -> None:
        start = Cursor.start(JOB_ID, 1)
        self.subscription = Subscription(JOB_ID, start, READER)
        self.bodies: list[bytes] = []
        self.started: Message | None = None
        self.is_complete = False
        self.is_cut = False
        self.closed: list[int] = []
        self.subscription.on_close(lambda: self.closed.append(1))
        encoder = ChatEncoder(job_info(), start, usage_in="nothing")
        self.stream = SseResponse(self.subscription, encoder, ping_s, first=[], retries=retries)

    async def read(self) -> None:
        extensions = {ABORT: {"call": self._cut}}
        await self.stream({"type": "http", "extensions": extensions}, self._receive, self._send)

    def _cut(self) -> None:
        self.is_cut = True

    async def _receive(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = message
        else:
            self.bodies.append(message["body"])
            self.is_complete = not message.get("more_body", False)

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.001)


async def test_everything_pending_goes_out_in_one_body() -> None:
    client = Client(retries=True)
    client.subscription.join([*BEGIN, *END])
    await client.read()
    assert client.started == {
        "type": "http.response.start",
        "status": 200,
        "headers": [
            (b"content-type", b"text/event-stream"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ],
    }
    assert len(client.bodies) == 1 and client.is_complete
    assert client.bodies[0].startswith(b"retry: 1000\nid: 1.AbCdEfGh.2.o.1b\ndata: {")
    assert client.bodies[0].endswith(b"\n\nid: 1.AbCdEfGh.2.x.2f\ndata: [DONE]\n\n")
    assert client.closed == [1]


async def test_a_stream_that_nobody_can_reconnect_to_says_no_time_for_it() -> None:
    client = Client()
    client.subscription.join([*BEGIN, *END])
    await client.read()
    assert b"retry" not in client.bodies[0]


async def test_pings_are_lines_without_a_blank_line() -> None:
    client = Client(ping_s=0.01, retries=True)
    reading = asyncio.create_task(client.read())
    await client.until(lambda: len(client.bodies) >= 2)
    for entry in BEGIN:
        client.subscription.offer(entry)
    await client.until(lambda: client.bodies[-1] != b": ping\n")
    await client.until(lambda: client.bodies[-1] == b": ping\n")
    for entry in END:
        client.subscription.offer(entry)
    await reading
    raw = b"".join(client.bodies)
    assert all(b"data: " in part for part in raw.split(b"\n\n")[:-1])
    assert raw.startswith(b": ping\n") and raw.count(b"retry: 1000\n") == 1
    # One ping a period, not one a wake-up.
    assert client.bodies.count(b": ping\n") < 200


@pytest.mark.parametrize("reason", [ClientGone(), ShuttingDown()])
async def test_a_stream_that_cannot_go_on_is_left_incomplete(reason: RequestError) -> None:
    client = Client()
    client.subscription.join(BEGIN)
    reading = asyncio.create_task(client.read())
    await client.until(lambda: client.bodies)
    client.subscription.fail(reason)
    await reading
    assert (client.is_complete, client.is_cut, client.closed) == (False, False, [1])


async def test_a_stream_that_expired_ends_with_an_error() -> None:
    client = Client()
    client.subscription.fail(StreamExpired(JOB_ID))
    await client.read()
    assert client.is_complete and b'"code":"stream_expired"' in client.bodies[-1]


async def test_a_client_that_leaves_ends_the_following() -> None:
    subscription = Subscription(JOB_ID, Cursor.start(JOB_ID, 1), READER)
    messages: list[Message] = [{"type": "http.request"}, {"type": "http.disconnect"}]

    async def receive() -> Message:
        return messages.pop(0)

    watch_client(subscription, receive)
    with pytest.raises(ClientGone):
        await subscription.take()
    subscription.close()


class StuckClient(Client):
    """Takes nothing of a body, until it is cut or may take it."""

    def __init__(self, ping_s: float = 60) -> None:
        super().__init__(ping_s)
        self.is_stuck, self.may_take = asyncio.Event(), False

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self.is_stuck.set()
            await self.until(lambda: self.is_cut or self.may_take)
        await super()._send(message)

    def _cut(self) -> None:
        if not self.is_cut:
            super()._cut()
            # As the server says when the connection is gone.
            self.subscription.fail(ClientGone())


async def test_a_stream_that_is_stuck_in_a_write_is_cut_when_its_following_ends() -> None:
    client = StuckClient()
    client.subscription.join(BEGIN)
    reading = asyncio.create_task(client.read())
    await client.is_stuck.wait()
    client.subscription.fail(ShuttingDown())
    await reading
    assert (client.is_complete, client.is_cut, client.closed) == (False, True, [1])

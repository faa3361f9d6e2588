"""Watching a client that reads an answer: when it closes its connection, its subscription ends."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.types import Receive

from api.errors import ClientGone
from api.streaming.subscription import Subscription
from shared.errors import RequestError


def watch_client(subscription: Subscription, receive: Receive) -> None:
    """Fail the subscription when the client closes its connection. The request's body must have been read."""

    async def watch() -> None:
        with suppress(RequestError):  # of a body that nobody asked for
            while (await receive())["type"] != "http.disconnect":
                pass
        subscription.fail(ClientGone())

    subscription.on_close(asyncio.create_task(watch()).cancel)

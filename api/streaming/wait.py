"""Waiting: what a request waits for before it can be answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from api.streaming.subscription import Subscription
from api.streaming.updates import Update
from shared.domain.output import ChoiceOutput

#: Seconds that the relay may take to read more of the stream.
_READ_S = 5.0


def is_output_or_end(update: Update) -> bool:
    return isinstance(update.event, ChoiceOutput) or update.is_end


class _Alarm:
    """Wakes a subscription when the time is up."""

    def __init__(self, subscription: Subscription, wait_s: float) -> None:
        self.is_over = False
        self._subscription = subscription
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._ring)

    def _ring(self) -> None:
        self.is_over = True
        self._subscription.wake()

    def __enter__(self) -> _Alarm:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()


async def _collect(
    subscription: Subscription, wait_s: float, is_enough: Callable[[Update], bool]
) -> list[Update]:
    fresh = subscription.take_ready()
    updates = list(fresh)
    with _Alarm(subscription, wait_s) as alarm:
        while not alarm.is_over and not any(map(is_enough, fresh)):
            fresh = await subscription.take()
            updates += fresh
    return updates


async def until_output(subscription: Subscription, wait_s: float) -> list[Update]:
    """Updates up to the first output or the end, or all that came in `wait_s`."""
    return await _collect(subscription, wait_s, is_output_or_end)


async def until_any(subscription: Subscription, wait_s: float) -> list[Update]:
    """The next updates of any kind; none when none came in `wait_s`."""
    return await _collect(subscription, wait_s, lambda _: True)


async def until_page(subscription: Subscription, wait_s: float, limit: int) -> list[Update]:
    """At most `limit` of the next updates; fewer only where there are no more yet. None when none came in `wait_s`."""
    more = await until_any(subscription, wait_s)
    updates = list(more)
    while more and subscription.is_behind and len(updates) < limit:
        more = await until_any(subscription, _READ_S)
        updates += more
    return updates[:limit]


async def until_end_within(subscription: Subscription, wait_s: float) -> None:
    """Wait for the end, for `wait_s` at most."""
    updates = subscription.take_ready()
    with _Alarm(subscription, wait_s) as alarm:
        while not alarm.is_over and not any(update.is_end for update in updates):
            updates = await subscription.take()

"""Waiting: what a request waits for before it can be answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from api.streaming.subscription import Subscription
from api.streaming.updates import Update
from shared.domain.events import ChoiceOutput

#: How long the stream may take to be read on.
_READ_S = 5.0


def is_output_or_end(news: Update) -> bool:
    return isinstance(news.event, ChoiceOutput) or news.is_end


async def _collect(
    subscription: Subscription, wait_s: float, is_enough: Callable[[Update], bool]
) -> list[Update]:
    is_late = False

    def give_up() -> None:
        nonlocal is_late
        is_late = True
        subscription.wake()

    timer = asyncio.get_running_loop().call_later(wait_s, give_up)
    fresh = subscription.take_ready()
    news = list(fresh)
    try:
        while not is_late and not any(map(is_enough, fresh)):
            fresh = await subscription.take()
            news += fresh
        return news
    finally:
        timer.cancel()


async def until_output(subscription: Subscription, wait_s: float) -> list[Update]:
    """Update up to the first output or the end, or all that came in `wait_s`."""
    return await _collect(subscription, wait_s, is_output_or_end)


async def until_any(subscription: Subscription, wait_s: float) -> list[Update]:
    """The next news, whatever they are; nothing when none came in `wait_s`."""
    return await _collect(subscription, wait_s, lambda _: True)


async def until_page(subscription: Subscription, wait_s: float, limit: int) -> list[Update]:
    """At most `limit` of the next news; fewer only where there are no more yet. Nothing when none came in
    `wait_s`."""
    more = await until_any(subscription, wait_s)
    news = list(more)
    while more and subscription.is_behind and len(news) < limit:
        more = await until_any(subscription, _READ_S)
        news += more
    return news[:limit]


async def until_end_within(subscription: Subscription, wait_s: float) -> list[Update]:
    """Update up to the end, or all that came in `wait_s`."""
    return await _collect(subscription, wait_s, lambda news: news.is_end)


async def until_end(subscription: Subscription, before: list[Update]) -> list[Update]:
    """Update up to the end, after those that came before."""
    news = list(before)
    while not (news and news[-1].is_end):
        news += await subscription.take()
    return news

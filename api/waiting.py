"""Waiting: what a request waits for before it can be answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from api.follower import Follower
from api.join import News
from shared.events import ChoiceOutput

#: How long the stream may take to be read on.
_READ_S = 5.0


def is_output_or_end(news: News) -> bool:
    return isinstance(news.event, ChoiceOutput) or news.is_end


async def _collect(follower: Follower, wait_s: float, is_enough: Callable[[News], bool]) -> list[News]:
    is_late = False

    def give_up() -> None:
        nonlocal is_late
        is_late = True
        follower.wake()

    timer = asyncio.get_running_loop().call_later(wait_s, give_up)
    fresh = follower.take_ready()
    news = list(fresh)
    try:
        while not is_late and not any(map(is_enough, fresh)):
            fresh = await follower.take()
            news += fresh
        return news
    finally:
        timer.cancel()


async def until_output(follower: Follower, wait_s: float) -> list[News]:
    """News up to the first output or the end, or all that came in `wait_s`."""
    return await _collect(follower, wait_s, is_output_or_end)


async def until_any(follower: Follower, wait_s: float) -> list[News]:
    """The next news, whatever they are; nothing when none came in `wait_s`."""
    return await _collect(follower, wait_s, lambda _: True)


async def until_page(follower: Follower, wait_s: float, limit: int) -> list[News]:
    """At most `limit` of the next news; fewer only where there are no more yet. Nothing when none came in
    `wait_s`."""
    more = await until_any(follower, wait_s)
    news = list(more)
    while more and follower.is_behind and len(news) < limit:
        more = await until_any(follower, _READ_S)
        news += more
    return news[:limit]


async def until_end_within(follower: Follower, wait_s: float) -> list[News]:
    """News up to the end, or all that came in `wait_s`."""
    return await _collect(follower, wait_s, lambda news: news.is_end)


async def until_end(follower: Follower, before: list[News]) -> list[News]:
    """News up to the end, after those that came before."""
    news = list(before)
    while not (news and news[-1].is_end):
        news += await follower.take()
    return news

from __future__ import annotations

import asyncio

import pytest

from shared.errors import StoreUnavailable
from workers.runtime.backoff import Backoff, until_available


async def test_it_doubles_up_to_a_second_until_it_is_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    backoff = Backoff()
    for _ in range(6):
        await backoff.sleep()
    backoff.reset()
    await backoff.sleep()
    assert slept == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 0.05]


async def test_a_call_is_made_again_until_the_store_answers() -> None:
    failures = [StoreUnavailable("away"), StoreUnavailable("still")]

    async def ask() -> str:
        if failures:
            raise failures.pop()
        return "here"

    assert await until_available(ask, "answer") == "here"
    assert failures == []

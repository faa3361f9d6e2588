from __future__ import annotations

import asyncio

from shared.runtime.cancellation import cancel_and_wait


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    begun = asyncio.Event()

    async def stubborn() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    task = asyncio.create_task(stubborn())
    await begun.wait()
    async with asyncio.timeout(5):
        await cancel_and_wait([task])
    assert task.cancelled()


async def test_what_has_ended_is_nothing_to_end() -> None:
    async def fail() -> None:
        raise RuntimeError("before")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    await cancel_and_wait([task])
    assert isinstance(task.exception(), RuntimeError)

from __future__ import annotations

import asyncio

from workers.runtime.task_set import TaskSet


async def test_a_task_that_fails_is_reported_while_the_others_run() -> None:
    died = asyncio.get_running_loop().create_future()
    task_set = TaskSet(died.set_result)

    async def fail() -> None:
        raise RuntimeError("here")

    task_set.spawn(asyncio.Event().wait(), name="waits")  # type: ignore[arg-type]
    task_set.spawn(fail(), name="fails")
    assert isinstance(await asyncio.wait_for(died, 5), RuntimeError)
    await task_set.stop("waits")


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    task_set = TaskSet(lambda _: None)
    begun = asyncio.Event()

    async def stubborn() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    task = task_set.spawn(stubborn(), name="stubborn")
    other = task_set.spawn(stubborn(), name="other")
    await begun.wait()
    async with asyncio.timeout(5):
        await task_set.stop("stubborn", "nobody")
        assert (task.cancelled(), other.done()) == (True, False)
        await task_set.stop("other")

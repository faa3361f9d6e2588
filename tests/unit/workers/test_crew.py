from __future__ import annotations

import asyncio

from workers.crew import Crew


async def test_a_task_that_fails_is_reported_while_the_others_run() -> None:
    died = asyncio.get_running_loop().create_future()
    crew = Crew(died.set_result)

    async def fail() -> None:
        raise RuntimeError("here")

    crew.spawn(asyncio.Event().wait(), name="waits")  # type: ignore[arg-type]
    crew.spawn(fail(), name="fails")
    assert isinstance(await asyncio.wait_for(died, 5), RuntimeError)
    await crew.stop("waits")


async def test_a_task_that_loses_a_cancellation_is_cancelled_again() -> None:
    crew = Crew(lambda _: None)
    begun = asyncio.Event()

    async def stubborn() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    task = crew.spawn(stubborn(), name="stubborn")
    other = crew.spawn(stubborn(), name="other")
    await begun.wait()
    async with asyncio.timeout(5):
        await crew.stop("stubborn", "nobody")
        assert (task.cancelled(), other.done()) == (True, False)
        await crew.stop("other")

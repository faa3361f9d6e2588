"""Crew: the tasks of one worker, none of which may end unnoticed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

#: A task that was cancelled and has not ended after this is cancelled again.
_AGAIN_S = 0.1


class Crew:
    """Runs coroutines. One that fails is reported at once, whatever the others are doing."""

    def __init__(self, on_death: Callable[[BaseException], None]) -> None:
        self._on_death = on_death
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, part: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run `part`; several may have the same name."""
        task = asyncio.create_task(part, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def stop(self, *names: str) -> None:
        """Cancel the tasks with these names until they have ended."""
        while tasks := {task for task in self._tasks if task.get_name() in names}:
            for task in tasks:
                task.cancel()
            # Once is not enough: redis-py uses asyncio.wait_for, which before Python 3.12 loses a
            # cancellation that comes as its call completes.
            await asyncio.wait(tasks, timeout=_AGAIN_S)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_death(error)

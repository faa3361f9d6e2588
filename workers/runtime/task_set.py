"""TaskSet: the asyncio tasks of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from shared.runtime.cancellation import cancel_and_wait


class TaskSet:
    """Runs coroutines. Calls `on_death` at once when one of them fails."""

    def __init__(self, on_death: Callable[[BaseException], None]) -> None:
        self.on_death = on_death
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, part: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run `part`. Several tasks may have the same name."""
        task = asyncio.create_task(part, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def stop(self, *names: str) -> None:
        """Cancel the tasks with these names until they have ended."""
        while tasks := {task for task in self._tasks if task.get_name() in names}:
            await cancel_and_wait(tasks)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.on_death(error)

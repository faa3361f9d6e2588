"""Ending: tasks that are cancelled until they have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

#: A task that was cancelled and has not ended after this is cancelled again.
_AGAIN_S = 0.1


async def cancel_and_wait(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks until all have ended.

    Once is not enough: redis-py uses asyncio.wait_for, which before Python 3.12 loses a cancellation that
    comes as its call completes.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN_S)

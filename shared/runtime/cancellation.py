"""cancel_and_wait: cancels tasks until they have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

#: A task that has not ended after this time is cancelled again.
_RETRY_S = 0.1


async def cancel_and_wait(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks until all have ended.

    Cancelling once is not enough: redis-py uses asyncio.wait_for, which before Python 3.12 loses a cancellation that
    arrives as its call completes.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_RETRY_S)

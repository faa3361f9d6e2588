"""Pump: takes a subscription's updates, has them encoded and writes them to a sink. It knows no transport."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from api.dialects.base import Block, Encoder
from api.streaming.subscription import Subscription
from api.streaming.updates import Update
from shared.domain.output import ChoiceOutput


class Sink(Protocol):
    """Where events go: the body of an SSE response, a WebSocket."""

    async def write(self, blocks: Sequence[Block], *, is_last: bool) -> None:
        """Write events; returns once there is room for more. Without events it is called when the subscription was
        woken: the sink may have to show that it is alive."""
        ...


async def pump(
    subscription: Subscription,
    encoder: Encoder,
    sink: Sink,
    first: list[Update],
    on_output: Callable[[], object] = lambda: None,
) -> None:
    """Write all updates, `first` and those to come, until the job's end. Calls `on_output` after each write of output.

    Raises what the subscription was failed with, and what the encoder raises.
    """
    updates = first
    while True:
        is_over = bool(updates) and updates[-1].is_end
        has_output = _has_output(updates)
        writing = sink.write(await encoder.encode(updates), is_last=is_over)
        # A client that is slow to read this does not need what it was made of.
        updates.clear()
        await writing
        if has_output:
            on_output()
        if is_over:
            return
        updates = await subscription.take()


def _has_output(updates: Sequence[Update]) -> bool:
    return any(isinstance(update.event, ChoiceOutput) and update.event.texts for update in updates)

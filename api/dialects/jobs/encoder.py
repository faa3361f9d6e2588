"""JobEventEncoder: a job's updates as the events of `/v1/jobs/{id}/events`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from api.dialects.base import Block, Encoder, JobInfo
from api.dialects.usage import usage_json
from api.streaming.cursor import Cursor
from api.streaming.queue_position import QueuePosition
from api.streaming.updates import EndEvent, Update
from shared.domain.events import Cancelled, Failed, Requeued, Resumed, Started, event_type
from shared.domain.output import ChoiceOutput
from shared.errors import ErrorInfo


class JobEventEncoder:
    """Life-cycle events by name. The data of `job.output` is an event of the endpoint's own dialect."""

    def __init__(self, job: JobInfo, output: Encoder) -> None:
        self._job_id = job.job_id
        self._output = output

    async def encode(self, updates: Sequence[Update]) -> list[Block]:
        """The events, in order."""
        blocks: list[Block] = []
        for update in updates:
            if isinstance(update.event, ChoiceOutput):
                output = await self._output.encode([update])
                blocks += [Block(block.data, block.id, "job.output") for block in output]
            else:
                blocks.append(self._life_cycle(update))
        return blocks

    def error(self, info: ErrorInfo, cursor: Cursor) -> Block:
        """An error of reading, not of the job."""
        return Block(_compact({"error": info.to_json()}), cursor.encode(), "error")

    def _life_cycle(self, update: Update) -> Block:
        event = update.event
        assert not isinstance(event, ChoiceOutput)
        kind = "queued" if isinstance(event, QueuePosition) else event_type(event)
        data = {"id": self._job_id, "object": "job.event", "type": kind, **_details(update)}
        return Block(_compact(data), update.cursor.encode(), f"job.{kind}")


def items_json(blocks: Sequence[Block]) -> list[dict[str, Any]]:
    """The same events as a poll's answer shows them."""
    return [{"event": block.event, "id": block.id, "data": json.loads(block.data)} for block in blocks]


def _details(update: Update) -> dict[str, Any]:
    details: dict[str, Any] = {}
    match update.event:
        case QueuePosition(position, eta_seconds):
            details = {"queue_position": position, "eta_seconds": eta_seconds}
        case Started(worker):
            details = {"worker": worker}
        case Resumed(worker, attempt, exact):
            details = {"worker": worker, "attempt": attempt, "exact": exact}
        case Requeued(reason) | Cancelled(reason):
            details = {"reason": reason}
        case Failed(error):
            details = {"error": error.to_json()}
    if isinstance(update.event, EndEvent):
        details["usage"] = usage_json(update.used)
    return details


def _compact(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))

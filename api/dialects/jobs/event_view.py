"""JobEventView: a job's news as `/v1/jobs/{id}/events` tells them, as SSE and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from api.dialects.openai_chat.chunks import Chunks, JobInfo, usage_of
from api.jobs.queue_position import QueuePosition
from api.streaming.cursor import Cursor
from api.streaming.sse import block
from api.streaming.updates import EndEvent, Update
from shared.domain.events import (
    Cancelled,
    ChoiceOutput,
    Failed,
    Requeued,
    Resumed,
    Started,
    event_type,
)
from shared.errors import ErrorInfo


class JobEventView:
    """Life-cycle events by name; `job.output` holds the endpoint's own chunk."""

    def __init__(self, job_info: JobInfo) -> None:
        self._job_info = job_info
        self._chunks = Chunks(job_info, with_usage=False)

    def encode(self, news: Iterable[Update]) -> bytes:
        """SSE blocks in one piece."""
        told = [(one, self._tell(one)) for one in news]
        blocks = [block(data[1], one.cursor.encode(), data[0]) for one, data in told if data is not None]
        return "".join(blocks).encode()

    def items(self, news: Iterable[Update]) -> list[dict[str, Any]]:
        """The same for polling: `event`, `id` and `data` of each block."""
        told = [(one, self._tell(one)) for one in news]
        return [
            {"event": data[0], "id": one.cursor.encode(), "data": json.loads(data[1])}
            for one, data in told
            if data is not None
        ]

    def error(self, error: ErrorInfo, cursor: Cursor) -> str:
        """An error of the reading, not of the job."""
        return block(json.dumps({"error": error.to_json()}), cursor.encode(), "error")

    def _tell(self, one: Update) -> tuple[str, str] | None:
        """Name and data."""
        if isinstance(one.event, ChoiceOutput):
            chunk = self._chunks.chunk(one.event, begins=one.begins)
            return None if chunk is None else ("job.output", chunk)
        kind = "queued" if isinstance(one.event, QueuePosition) else event_type(one.event)
        data = {"id": self._job_info.job_id, "object": "job.event", "type": kind, **self._details(one)}
        return f"job.{kind}", json.dumps(data, separators=(",", ":"))

    def _details(self, one: Update) -> dict[str, Any]:
        details: dict[str, Any] = {}
        match one.event:
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
        if isinstance(one.event, EndEvent):
            details["usage"] = usage_of(one.event, one.completion_tokens)
        return details

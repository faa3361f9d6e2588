"""JobView: a job's news as `/v1/jobs/{id}/events` tells them, as SSE and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from api.cursor import Cursor
from api.join import EndEvent, News
from api.place import Place
from api.sse import block
from api.translate import Chunks, Facts, usage_of
from shared.errors import ErrorInfo
from shared.events import (
    Cancelled,
    ChoiceOutput,
    Failed,
    Requeued,
    Resumed,
    Started,
    event_type,
)


class JobView:
    """Life-cycle events by name; `job.output` holds the endpoint's own chunk."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._chunks = Chunks(facts, with_usage=False)

    def encode(self, news: Iterable[News]) -> bytes:
        """SSE blocks in one piece."""
        told = [(one, self._tell(one)) for one in news]
        blocks = [block(data[1], one.cursor.encode(), data[0]) for one, data in told if data is not None]
        return "".join(blocks).encode()

    def items(self, news: Iterable[News]) -> list[dict[str, Any]]:
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

    def _tell(self, one: News) -> tuple[str, str] | None:
        """Name and data."""
        if isinstance(one.event, ChoiceOutput):
            chunk = self._chunks.chunk(one.event, begins=one.begins)
            return None if chunk is None else ("job.output", chunk)
        kind = "queued" if isinstance(one.event, Place) else event_type(one.event)
        data = {"id": self._facts.job_id, "object": "job.event", "type": kind, **self._details(one)}
        return f"job.{kind}", json.dumps(data, separators=(",", ":"))

    def _details(self, one: News) -> dict[str, Any]:
        details: dict[str, Any] = {}
        match one.event:
            case Place(position, eta_seconds):
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

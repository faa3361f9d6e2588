"""JobObject: a job as `/v1/jobs` shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api.dialects.openai_chat.chunks import JobInfo, completion, texts_of, usage_of
from api.errors import error_of
from api.jobs.queue_position import QueuePosition
from api.streaming.cursor import Cursor
from api.streaming.updates import EndEvent, Update, advance
from shared.domain.events import Entry
from shared.domain.job import Job


def updates_of(job: Job, entries: Sequence[Entry]) -> list[Update]:
    """All that a reader of the whole stream learns."""
    cursor, news = Cursor.start(job.id, job.n), list[Update]()
    for entry in entries:
        news += advance(cursor, entry) or []
        cursor = news[-1].cursor if news else cursor
    return news


def job_summary(job: Job, place: QueuePosition | None) -> dict[str, Any]:
    """A job without what has to be read from its stream (null in lists)."""
    end = None if job.completed_at is None else int(job.completed_at)
    return {
        "id": job.id,
        "object": "job",
        "endpoint": job.endpoint,
        "status": job.status,
        "reason": job.reason,
        "model": job.model,
        "worker": job.worker,
        "priority": job.priority,
        "on_disconnect": job.on_disconnect,
        "queue_position": None if place is None else place.position,
        "eta_seconds": None if place is None else place.eta_seconds,
        "attempts": job.attempts,
        "retry_of": job.retry_of,
        "created_at": int(job.created_at),
        "started_at": None if job.started_at is None else int(job.started_at),
        "completed_at": end,
        "urls": _urls(job.id),
        "metadata": job.metadata,
        "output_so_far": None,
        "timing": _timing(job),
        "usage": _usage(job),
        "result": None,
        "error": None if job.error is None else job.error.to_json(),
    }


def job_object(job: Job, place: QueuePosition | None, entries: Sequence[Entry]) -> dict[str, Any]:
    """A job with its output: so far while it runs, as the endpoint's own object when it is complete."""
    news = updates_of(job, entries)
    texts, finish = texts_of(job.n, news)
    output = [
        {"index": index, "text": texts[index], "tokens": tokens, "finish_reason": finish[index]}
        for index, tokens in enumerate(news[-1].cursor.positions if news else (0,) * job.n)
    ]
    shown = job_summary(job, place) | {"output_so_far": output}
    end = news[-1].event if news else None
    if isinstance(end, EndEvent):
        error = error_of(end)
        shown["usage"] = usage_of(end, news[-1].completion_tokens)
        shown["error"] = None if error is None else error.to_json()
        if error is None:
            shown["result"] = completion(JobInfo(job.id, job.model, int(job.created_at), job.n), news)
    return shown


def _urls(job_id: str) -> dict[str, str]:
    path = f"/v1/jobs/{job_id}"
    return {"get": path, "events": f"{path}/events", "cancel": f"{path}/cancel"}


def _timing(job: Job) -> dict[str, float | None]:
    """Seconds that it waited and that it ran."""
    waited = None if job.started_at is None else round(job.started_at - job.created_at, 3)
    begun = job.started_at
    ran = None if begun is None or job.completed_at is None else round(job.completed_at - begun, 3)
    return {"queued_s": waited, "running_s": ran}


def _usage(job: Job) -> dict[str, int]:
    tokens = sum(job.end)
    prompt = job.prompt_tokens
    return {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}

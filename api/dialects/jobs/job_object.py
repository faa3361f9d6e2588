"""JobObject: a job as `/v1/jobs` shows it."""

from __future__ import annotations

from typing import Any

from api.dialects.base import Dialect, JobInfo
from api.dialects.usage import usage_json
from api.errors import error_of_status
from api.streaming.queue_position import QueuePosition
from shared.domain.job import Job
from shared.domain.result import Result


def job_summary(job: Job, position: QueuePosition | None) -> dict[str, Any]:
    """A job without its output, as lists show it."""
    error = job.error or error_of_status(job.status, job.reason)
    return {
        "id": job.id,
        "object": "job",
        "endpoint": job.endpoint,
        "status": job.status,
        "paused": job.is_paused,
        "reason": job.reason,
        "model": job.model,
        "worker": job.worker,
        "priority": job.priority,
        "on_disconnect": job.on_disconnect,
        "queue_position": None if position is None else position.position,
        "eta_seconds": None if position is None else position.eta_seconds,
        "attempts": job.attempts,
        "retry_of": job.retry_of,
        "created_at": int(job.created_at),
        "started_at": None if job.started_at is None else int(job.started_at),
        "completed_at": None if job.completed_at is None else int(job.completed_at),
        "urls": _urls(job.id),
        "metadata": job.metadata,
        "positions": list(job.end),
        "output_so_far": None,
        "timing": _timing(job),
        "usage": usage_json(job.used),
        "result": None,
        "error": None if error is None else error.to_json(),
    }


_FIELDS = (
    "id", "object", "endpoint", "status", "paused", "reason", "model", "worker", "priority", "on_disconnect",
    "queue_position",
    "eta_seconds", "attempts", "retry_of", "created_at", "started_at", "completed_at", "urls", "metadata", "positions",
    "output_so_far", "timing", "usage", "result", "error",
)  # fmt: skip


def unreadable_job(job_id: str) -> dict[str, Any]:
    """A job whose record this version cannot read. It can be deleted."""
    known = {"id": job_id, "object": "job", "status": "unreadable", "urls": _urls(job_id)}
    return {name: known.get(name) for name in _FIELDS}


def job_object(
    job: Job,
    position: QueuePosition | None,
    dialect: Dialect | None,
    result: Result | None,
    *,
    shows_output: bool,
) -> dict[str, Any]:
    """A job with its result, once it has one. `result`: what the job has released, where it was read."""
    shown = job_summary(job, position)
    if result is None:
        return shown
    if job.status in ("completed", "incomplete") and dialect is not None:
        shown["result"] = dialect.whole(JobInfo.of(job), job.view, result)
    if shows_output:
        shown["output_so_far"] = _output(result)
    return shown


def _output(result: Result) -> list[dict[str, Any]]:
    return [
        {
            "index": index,
            "text": choice.text,
            "tokens": choice.position,
            "finish_reason": None if choice.finish is None else choice.finish.reason,
        }
        for index, choice in enumerate(result.choices)
    ]


def _urls(job_id: str) -> dict[str, str]:
    path = f"/v1/jobs/{job_id}"
    return {"get": path, "events": f"{path}/events", "cancel": f"{path}/cancel"}


def _timing(job: Job) -> dict[str, float | None]:
    """Seconds that it waited and that it ran."""
    started = job.started_at
    waited = None if started is None else round(started - job.created_at, 3)
    ran = None if started is None or job.completed_at is None else round(job.completed_at - started, 3)
    return {"queued_s": waited, "running_s": ran}

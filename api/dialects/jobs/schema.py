"""JobRequest: the body of `POST /v1/jobs`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from api.dialects.openai_chat.schema import ChatRequest, Metadata, read_chat
from api.dialects.openai_chat.unsupported import UNSUPPORTED_IN_JOB, drop_noop_fields
from api.http.validation import Schema, validate
from shared.domain.job import OnDisconnect, Priority
from shared.errors import invalid_request

#: Seconds: thirty days.
_MAX_AFTER_S = 2_592_000
_After = Annotated[float, Field(gt=0, le=_MAX_AFTER_S)]


class JobRequest(Schema):
    """A job, checked but for its body."""

    endpoint: Literal["/v1/chat/completions"]
    body: dict[str, Any]
    priority: Priority = "normal"
    on_disconnect: OnDisconnect = "continue"
    expires_after: _After | None = None
    cancel_after: _After | None = None
    metadata: Metadata | None = None


def read_job(fields: dict[str, Any]) -> tuple[JobRequest, ChatRequest]:
    """A job and its chat from their JSON. Raises RequestError (400)."""
    job = validate(JobRequest, drop_noop_fields(fields, JobRequest, UNSUPPORTED_IN_JOB, ""))
    if job.metadata is not None and "metadata" in job.body:
        raise invalid_request(
            "Give 'metadata' once, at the job or in its body.", param="metadata", code="invalid_value"
        )
    return job, read_chat(job.body, prefix="body.")

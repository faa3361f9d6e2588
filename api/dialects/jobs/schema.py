"""JobRequest: the body of `POST /v1/jobs`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from api.dialects.parameters.metadata import Metadata
from api.dialects.unsupported import Refused, drop_noop_fields
from api.http.on_disconnect import OnDisconnectWord
from api.http.validation import Schema, validate
from shared.domain.job import Priority
from shared.errors import RequestError, invalid_request

#: Seconds: thirty days.
_MAX_AFTER_S = 2_592_000
_After = Annotated[float, Field(gt=0, le=_MAX_AFTER_S)]
#: Fields of a job that are not supported.
_UNSUPPORTED = {"webhook": Refused("Baton")}


class JobRequest(Schema):
    """A job, checked except for its body."""

    endpoint: str = Field(description="Path of the API that `body` is for.")
    body: dict[str, Any] = Field(description="The request, as for the endpoint.")
    priority: Priority = Field("normal", description="`high` needs the scope `admin`.")
    on_disconnect: OnDisconnectWord = Field(
        "continue",
        description="When the last reader disconnects: continue, pause until one comes back, or abort."
        " `cancel` is an older name of `pause`.",
    )
    expires_after: _After | None = Field(None, description="Seconds within which the job must start.")
    cancel_after: _After | None = Field(None, description="Seconds within which the job must end.")
    metadata: Metadata | None = Field(
        None, description="Stored with the job. Names of up to 64 characters, values of up to 512."
    )


def read_job(fields: dict[str, Any]) -> JobRequest:
    """A job from its JSON. Raises RequestError (400)."""
    if "body" not in fields and not {"messages", "prompt"}.isdisjoint(fields):
        raise _is_bare_body()
    job = validate(JobRequest, drop_noop_fields(fields, JobRequest, _UNSUPPORTED, ""))
    if job.metadata is not None and "metadata" in job.body:
        message = "Give 'metadata' once, either with the job or in its body."
        raise invalid_request(message, param="metadata", code="invalid_value")
    return job


def _is_bare_body() -> RequestError:
    message = (
        "This looks like the body of another endpoint. Put it under 'body':"
        ' {"endpoint": "/v1/chat/completions", "body": {…}}.'
    )
    return invalid_request(message, param="body", code="missing_required_parameter")

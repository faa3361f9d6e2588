"""Job: one accepted, durable request, and the data stored with it."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from shared.domain.request import GenerationRequest
from shared.domain.request_key import RequestKey
from shared.domain.usage import Usage
from shared.errors import DecodeError, ErrorInfo, require_text

JobStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled", "expired"]
TERMINAL_STATUSES: frozenset[str] = frozenset({"completed", "incomplete", "failed", "cancelled", "expired"})
LIVE_STATUSES: frozenset[str] = frozenset({"queued", "in_progress"})
Priority = Literal["high", "normal", "low"]
CancelReason = Literal["client", "deadline", "reader_gone"]
RequeueReason = Literal["drain", "preempted", "worker_died", "given_back", "paused"]
#: What happens to a job when its last reader disconnects: it pauses until a reader returns, it continues, or it is
#: cancelled at once.
OnDisconnect = Literal["pause", "continue", "abort"]
DeadlineKind = Literal["expires", "cancel", "paused", "retention"]
#: The endpoint that created a job. It decides in which dialect the job is shown.
Endpoint = Literal["/v1/chat/completions"]

#: Prefix of a job's id. Dialects use other prefixes for the ids of their objects.
JOB_PREFIX = "job_"
_ID_ALPHABET = string.ascii_letters + string.digits
_ID_LENGTH = 24


def new_job_id() -> str:
    """Return `job_` and 24 random letters and digits (143 bits)."""
    return JOB_PREFIX + "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))


def is_job_id(text: str) -> bool:
    """Whether `text` has the form of a job's id. Redis keys are built only from such ids."""
    return (
        text.startswith(JOB_PREFIX)
        and len(text) == 4 + _ID_LENGTH
        and all(c in _ID_ALPHABET for c in text[4:])
    )


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be created by `JobStore.create`. Durations are in seconds from creation."""

    id: str
    model: str
    #: Id of the principal that owns the job.
    owner: str
    request: GenerationRequest
    endpoint: str = "/v1/chat/completions"
    #: Options that the endpoint's dialect needs to show the job, such as `include_usage`.
    view: Mapping[str, Any] = field(default_factory=dict)
    priority: Priority = "normal"
    on_disconnect: OnDisconnect = "continue"
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: A job that has not started within this time is `expired`.
    expires_after_s: float | None = None
    #: A job that has not ended within this time is `cancelled` with the reason `deadline`.
    cancel_after_s: float | None = None
    #: With `on_disconnect: pause`, a job that was paused for this long is `cancelled` with the reason `reader_gone`.
    reader_grace_s: float = 300.0
    #: How long the job is kept after it ends.
    retention_s: float = 86_400.0
    #: The job whose request this one repeats.
    retry_of: str | None = None
    #: A client that repeats the request with this key gets the same job.
    key: RequestKey | None = None

    def bulk(self) -> dict[str, str]:
        """Return the fields that may be long. They are stored in a hash of their own.

        Redis stores a hash compactly only while all of its values are short, and lists of jobs read just the record.
        """
        return {
            "request": self.request.encode(),
            "view": _compact(dict(self.view)),
            "metadata": _compact(dict(self.metadata)),
        }

    def record(self) -> dict[str, str | int]:
        """Return fields that the script stores unchanged in the hash `job:<id>`."""
        times = {"expires_after_ms": self.expires_after_s, "cancel_after_ms": self.cancel_after_s}
        return {
            "endpoint": self.endpoint,
            "needs": self.request.needs,
            "n": self.request.num_choices,
            "priority": self.priority,
            "on_disconnect": self.on_disconnect,
            "grace_ms": round(self.reader_grace_s * 1000),
            **{name: round(after * 1000) for name, after in times.items() if after is not None},
            **({} if self.retry_of is None else {"retry_of": self.retry_of}),
        }


class Accepted(NamedTuple):
    """The result of `JobStore.create`."""

    job_id: str
    #: Seconds since the epoch, by Redis's clock.
    created_at: float
    #: Whether an earlier request with the same key created this job.
    is_replay: bool


@dataclass(frozen=True, slots=True)
class Job:
    """A job as Redis holds it. Times are seconds since the epoch, by Redis's clock.

    Status, priority and reason are plain strings, because a newer version may add values. Unknown values are shown
    as they are.
    """

    id: str
    endpoint: str
    model: str
    owner: str
    #: Number of choices of all prompts.
    n: int
    priority: str
    on_disconnect: str
    metadata: dict[str, str]
    status: str
    created_at: float
    fence: int
    attempts: int
    deaths: int
    #: Units released, for each choice.
    end: tuple[int, ...]
    used: Usage = Usage()
    #: The request and the resolved request as stored. None: they were not read.
    raw_request: str | None = None
    raw_resolved: str | None = None
    view: Mapping[str, Any] = field(default_factory=dict)
    #: How often it was preempted by a job of priority `high`.
    num_preemptions: int = 0
    #: How often it paused because nobody read it.
    num_pauses: int = 0
    is_paused: bool = False
    claim_token: str | None = None
    #: Name of the worker that runs the job, or that ran it last.
    worker: str | None = None
    reason: str | None = None
    started_at: float | None = None
    completed_at: float | None = None
    expires_after_s: float | None = None
    cancel_after_s: float | None = None
    retry_of: str | None = None
    #: Why it failed.
    error: ErrorInfo | None = None

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL_STATUSES

    @classmethod
    def accepted(cls, new: NewJob, created_at: float) -> Job:
        """Return the job as it is right after its creation."""
        return cls(
            id=new.id,
            endpoint=new.endpoint,
            model=new.model,
            owner=new.owner,
            n=new.request.num_choices,
            priority=new.priority,
            on_disconnect=new.on_disconnect,
            metadata=dict(new.metadata),
            status="queued",
            created_at=created_at,
            fence=1,
            attempts=0,
            deaths=0,
            end=(0,) * new.request.num_choices,
            view=new.view,
            expires_after_s=new.expires_after_s,
            cancel_after_s=new.cancel_after_s,
            retry_of=new.retry_of,
        )

    @property
    def request(self) -> GenerationRequest:
        """The decoded request. Raises DecodeError."""
        if self.raw_request is None:
            raise DecodeError("request", None)
        return GenerationRequest.decode(self.raw_request)

    @classmethod
    def decode(
        cls,
        fields: Mapping[str, str],
        end: tuple[int, ...],
        used: Usage = Usage(),
        error: ErrorInfo | None = None,
    ) -> Job:
        """Decode the hash `job:<id>`, together with the fields of `job:<id>:request` that the caller read.

        `end`, `used` and `error` come from the last entry of the stream. Raises DecodeError.
        """
        try:
            require_text(fields)
            return cls(
                id=fields["id"],
                endpoint=fields["endpoint"],
                model=fields["model"],
                owner=fields["owner"],
                n=int(fields["n"]),
                priority=fields["priority"],
                on_disconnect=fields["on_disconnect"],
                metadata=_object(fields.get("metadata", "{}")),
                status=fields["status"],
                created_at=int(fields["created_ms"]) / 1000,
                fence=int(fields["fence"]),
                attempts=int(fields["attempts"]),
                deaths=int(fields["deaths"]),
                end=end,
                used=used,
                raw_request=fields.get("request"),
                raw_resolved=fields.get("resolved"),
                view=_object(fields.get("view", "{}")),
                num_preemptions=int(fields.get("num_preemptions", 0)),
                num_pauses=int(fields.get("num_pauses", 0)),
                is_paused=bool(fields.get("paused_ms")),
                claim_token=fields.get("claim_token") or None,
                worker=fields.get("worker"),
                reason=fields.get("reason") or None,
                started_at=_seconds(fields.get("started_ms")),
                completed_at=_seconds(fields.get("completed_ms")),
                expires_after_s=_seconds(fields.get("expires_after_ms")),
                cancel_after_s=_seconds(fields.get("cancel_after_ms")),
                retry_of=fields.get("retry_of"),
                error=error,
            )
        except (ValueError, KeyError, TypeError) as cause:
            raise DecodeError("job", dict(fields)) from cause


def _object(raw: str) -> dict[str, Any]:
    found = json.loads(raw)
    if not isinstance(found, dict):
        raise ValueError("expected an object")
    return found


def _seconds(milliseconds: str | None) -> float | None:
    return None if milliseconds is None else int(milliseconds) / 1000


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))

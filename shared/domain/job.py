"""Job: one request, accepted and durable, and what is stored with it."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, cast, get_args

from shared.domain.constraint import Constraint
from shared.domain.events import CancelReason
from shared.domain.request_key import RequestKey
from shared.domain.sampling import SamplingParams
from shared.errors import DecodeError, ErrorInfo

JobStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled", "expired"]
TERMINAL_STATUSES: frozenset[JobStatus] = frozenset(
    {"completed", "incomplete", "failed", "cancelled", "expired"}
)
Priority = Literal["high", "normal", "low"]
OnDisconnect = Literal["continue", "cancel"]
DeadlineKind = Literal["expires", "cancel", "reader", "retention"]
Endpoint = Literal["/v1/chat/completions"]

_ID_ALPHABET = string.ascii_letters + string.digits
_ID_LENGTH = 24


def new_job_id() -> str:
    """`job_` and 24 random letters and digits (143 bits)."""
    return "job_" + "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))


def is_job_id(text: str) -> bool:
    """Whether `text` has the form of an id; no Redis key is made of anything else."""
    return (
        text.startswith("job_") and len(text) == 4 + _ID_LENGTH and all(c in _ID_ALPHABET for c in text[4:])
    )


@dataclass(frozen=True, slots=True)
class NewJob:
    """What `JobStore.create` writes. Durations are seconds from the moment of creation."""

    id: str
    model: str
    owner: str
    #: The request's body as validated JSON.
    body: dict[str, Any]
    endpoint: Endpoint = "/v1/chat/completions"
    #: Number of choices that the body asks for.
    n: int = 1
    priority: Priority = "normal"
    on_disconnect: OnDisconnect = "continue"
    metadata: Mapping[str, str] = field(default_factory=dict)
    #: Not started within this: `expired`.
    expires_after_s: float | None = None
    #: Not ended within this: `cancelled` with the reason `deadline`.
    cancel_after_s: float | None = None
    #: With `on_disconnect: cancel`: without a reader for this long, `cancelled` with `reader_gone`.
    reader_grace_s: float = 15.0
    #: How long the job is kept after its end.
    retention_s: float = 86_400.0
    #: The job whose request this one repeats.
    retry_of: str | None = None
    #: Under this a client may repeat the request and gets the same job.
    key: RequestKey | None = None

    def asked(self) -> tuple[str, str]:
        """Body and metadata as they are stored: apart from the record, which Redis keeps compact while all
        of its values are short."""
        return json.dumps(self.body, separators=(",", ":")), json.dumps(dict(self.metadata))

    def record(self) -> dict[str, str | int]:
        """What of it stands in the hash `job:<id>` as it is."""
        times = {"expires_after_ms": self.expires_after_s, "cancel_after_ms": self.cancel_after_s}
        return {
            "endpoint": self.endpoint,
            "n": self.n,
            "priority": self.priority,
            "on_disconnect": self.on_disconnect,
            **{name: round(after * 1000) for name, after in times.items() if after is not None},
            **({} if self.retry_of is None else {"retry_of": self.retry_of}),
        }


class Accepted(NamedTuple):
    """`JobStore.create`'s answer."""

    job_id: str
    #: Seconds since the epoch, by Redis's clock.
    created_at: float
    #: Whether the request's key had made this job before.
    is_replay: bool


@dataclass(frozen=True, slots=True)
class ResolvedRequest:
    """What a request means once a worker has read it. Stored at the first claim, used by all later ones."""

    prompt_token_ids: tuple[int, ...]
    sampling: SamplingParams
    #: Tokens that end a choice (end of sequence and turn).
    stop_token_ids: tuple[int, ...]
    #: Fingerprint of the model's weights and tokenizer.
    model_revision: str

    def encode(self) -> str:
        fields = asdict(self)
        if self.sampling.constraint is None:
            del fields["sampling"]["constraint"]  # workers of an older version read the rest
        return json.dumps(fields, separators=(",", ":"))

    @classmethod
    def decode(cls, raw: str) -> ResolvedRequest:
        """Without what a later version tells besides. Raises DecodeError, also for a parameter of sampling
        that is in use and not known here: other tokens would be drawn without it."""
        try:
            fields = json.loads(raw)
            return cls(
                prompt_token_ids=tuple(fields["prompt_token_ids"]),
                sampling=_decode_sampling(fields["sampling"]),
                stop_token_ids=tuple(fields["stop_token_ids"]),
                model_revision=fields["model_revision"],
            )
        except (ValueError, KeyError, TypeError, AttributeError) as cause:
            raise DecodeError("resolved request", raw) from cause


def _decode_sampling(sampling: dict[str, Any]) -> SamplingParams:
    for name in sampling.keys() - set(SamplingParams.__slots__):
        if sampling.pop(name):
            raise ValueError(name)
    sampling["stop"] = tuple(sampling.get("stop", ()))
    sampling["logit_bias"] = tuple((token_id, bias) for token_id, bias in sampling.get("logit_bias", ()))
    sampling["allowed_token_ids"] = tuple(sampling.get("allowed_token_ids", ()))
    sampling["bad_words"] = tuple(tuple(word) for word in sampling.get("bad_words", ()))
    sampling["constraint"] = Constraint.decode(sampling.get("constraint"))
    return SamplingParams(**sampling)


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands in Redis. Times are seconds since the epoch, by Redis's clock."""

    id: str
    endpoint: Endpoint
    model: str
    owner: str
    body: dict[str, Any]
    n: int
    priority: Priority
    on_disconnect: OnDisconnect
    metadata: dict[str, str]
    status: JobStatus
    created_at: float
    fence: int
    attempts: int
    deaths: int
    #: Per choice, tokens released.
    end: tuple[int, ...]
    #: How often it made room for a high job.
    preempted: int = 0
    claim_token: str | None = None
    #: The name of the worker that has the job, or had it last.
    worker: str | None = None
    reason: CancelReason | None = None
    started_at: float | None = None
    completed_at: float | None = None
    prompt_tokens: int = 0
    resolved: ResolvedRequest | None = None
    expires_after_s: float | None = None
    cancel_after_s: float | None = None
    retry_of: str | None = None
    #: Why it failed.
    error: ErrorInfo | None = None

    @property
    def is_terminal(self) -> bool:
        return self.status in TERMINAL_STATUSES

    @classmethod
    def decode(cls, fields: Mapping[str, str], end: tuple[int, ...], error: ErrorInfo | None = None) -> Job:
        """Read the hashes `job:<id>` and `job:<id>:request`, as one; `end` and `error` are its stream's last
        entry's. Raises DecodeError."""
        try:
            return cls(
                id=fields["id"],
                endpoint=cast(Endpoint, fields["endpoint"]),
                model=fields["model"],
                owner=fields["owner"],
                body=json.loads(fields["body"]),
                n=int(fields["n"]),
                priority=_member(fields["priority"], Priority),
                on_disconnect=_member(fields["on_disconnect"], OnDisconnect),
                metadata=json.loads(fields["metadata"]),
                status=_member(fields["status"], JobStatus),
                created_at=int(fields["created_ms"]) / 1000,
                fence=int(fields["fence"]),
                attempts=int(fields["attempts"]),
                deaths=int(fields["deaths"]),
                end=end,
                preempted=int(fields.get("preempted", 0)),
                claim_token=fields.get("claim_token") or None,
                worker=fields.get("worker"),
                reason=_member(fields["reason"], CancelReason) if fields.get("reason") else None,
                started_at=_seconds(fields.get("started_ms")),
                completed_at=_seconds(fields.get("completed_ms")),
                prompt_tokens=int(fields.get("prompt_tokens", 0)),
                resolved=ResolvedRequest.decode(fields["resolved"]) if "resolved" in fields else None,
                expires_after_s=_seconds(fields.get("expires_after_ms")),
                cancel_after_s=_seconds(fields.get("cancel_after_ms")),
                retry_of=fields.get("retry_of"),
                error=error,
            )
        except (ValueError, KeyError, TypeError) as cause:
            raise DecodeError("job", dict(fields)) from cause


def _seconds(milliseconds: str | None) -> float | None:
    return None if milliseconds is None else int(milliseconds) / 1000


def _member(value: str, literal: Any) -> Any:
    if value not in get_args(literal):
        raise ValueError(value)
    return value

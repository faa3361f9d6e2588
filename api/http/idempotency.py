"""Idempotency: reading the key under which a client may repeat a POST and gets the same job.

After https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/, but 409 where it has 422.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request
from pydantic import BaseModel

from shared.domain.job import Accepted
from shared.domain.request_key import RequestKey
from shared.errors import invalid_request

HEADER = "Idempotency-Key"
_MAX_LENGTH = 255
#: For /openapi.json.
PARAMETER: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Repeated with the same body: the same job while that is kept; with another body: 409.",
    "schema": {"type": "string", "minLength": 1, "maxLength": _MAX_LENGTH},
}


def comparable_body(body: BaseModel) -> dict[str, Any]:
    """What is compared of a body: not what has its default, so that a version with more fields, on another
    replica or after an upgrade, finds the same in it."""
    return body.model_dump(mode="json", exclude_defaults=True)


def read_key(request: Request, owner: str, asked: Any) -> RequestKey | None:
    """The request's key, if it has one; `asked` is its body as it was read. Raises RequestError (400)."""
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    if len(given) > 1 or not _is_key(given[0]):
        message = f"Invalid '{HEADER}': expected one value of 1 to {_MAX_LENGTH} printable ASCII characters."
        raise invalid_request(message, param=HEADER, code="invalid_value")
    return RequestKey.of(given[0], owner, request.scope["path"], asked)


def _is_key(text: str) -> bool:
    return 1 <= len(text) <= _MAX_LENGTH and text.isascii() and text.isprintable()


def mark_replay(request: Request, accepted: Accepted) -> None:
    """Let the answer carry its job's id, and `idempotent-replayed: true` where its key was met before."""
    request.state.job_id = accepted.job_id
    request.state.is_replay = accepted.is_replay

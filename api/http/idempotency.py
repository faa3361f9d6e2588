"""Idempotency: the key under which a client may repeat a POST and gets the same job.

As in https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/, but with 409 instead of 422.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import Request

from shared.domain.job import Accepted
from shared.domain.request_key import RequestKey
from shared.errors import invalid_request

HEADER = "Idempotency-Key"
_MAX_LENGTH = 255
#: Fields that say how an answer is shown: a client may ask for it whole, then as a stream.
_SHOWN = ("stream", "stream_options")
#: For /openapi.json.
PARAMETER: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "Repeated with the same body: the same job, as long as it is kept. With another body: 409.",
    "schema": {"type": "string", "minLength": 1, "maxLength": _MAX_LENGTH},
}


def comparable(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What is compared of a request: its body as it was sent, except for how the answer is shown.

    Not the body as it was understood: a version that honours a field which an older one ignored must find the same.
    """
    kept = {name: value for name, value in fields.items() if name not in _SHOWN}
    body = kept.get("body")
    return {**kept, "body": comparable(body)} if isinstance(body, dict) else kept


def read_key(request: Request, owner: str, fields: Mapping[str, Any]) -> RequestKey | None:
    """The request's key, if it has one. `fields`: its body. Raises RequestError (400)."""
    given = request.headers.getlist(HEADER)
    if not given:
        return None
    if len(given) > 1 or not _is_key(given[0]):
        message = f"Invalid '{HEADER}': expected one value of 1 to {_MAX_LENGTH} printable ASCII characters."
        raise invalid_request(message, param=HEADER, code="invalid_value")
    return RequestKey.of(given[0], owner, request.scope["path"], comparable(fields))


def _is_key(text: str) -> bool:
    return 1 <= len(text) <= _MAX_LENGTH and text.isascii() and text.isprintable()


def mark_replay(request: Request, accepted: Accepted) -> None:
    """Send the job's id with the response, and `idempotent-replayed: true` if the key was used before."""
    request.state.job_id = accepted.job_id
    request.state.is_replay = accepted.is_replay

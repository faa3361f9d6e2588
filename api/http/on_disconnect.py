"""on_disconnect: what becomes of a job when its last reader disconnects, in a client's words."""

from __future__ import annotations

from typing import Any, Literal, get_args

from starlette.datastructures import Headers

from api.http.query import read_word
from shared.domain.job import OnDisconnect

#: `cancel` is an older name of `pause`.
OnDisconnectWord = Literal["pause", "continue", "abort", "cancel"]
HEADER = "x-on-disconnect"
#: Its older name.
_OLDER = "Baton-On-Disconnect"
#: For /openapi.json.
PARAMETER: dict[str, Any] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": "What happens when the client disconnects: pause until it comes back, continue, or abort.",
    "schema": {"type": "string", "enum": list(get_args(OnDisconnect)), "default": "pause"},
}


def from_word(word: OnDisconnectWord) -> OnDisconnect:
    return "pause" if word == "cancel" else word


def from_headers(headers: Headers) -> OnDisconnect:
    """`pause` unless a header says otherwise. Raises RequestError (400)."""
    name = HEADER if HEADER in headers else _OLDER
    word: OnDisconnectWord | None = read_word(name, headers.get(name), get_args(OnDisconnectWord))
    return from_word(word or "pause")

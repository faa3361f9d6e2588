"""RequestKey: a client's key for a request (`Idempotency-Key`), with which it can repeat the request safely."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A key as stored. It reveals neither the client's text nor the request."""

    #: Owner and hash of the client's text. Keys of different owners never collide.
    name: str
    #: Hash of endpoint and request. The same key with a different fingerprint is refused.
    fingerprint: str

    @classmethod
    def of(cls, text: str, owner: str, endpoint: str, request: Any) -> RequestKey:
        """Return the key for `text`, with which a client sent `request`, a JSON value, to `endpoint`."""
        request_json = json.dumps([endpoint, request], sort_keys=True, separators=(",", ":"))
        return cls(f"{owner}:{_digest(text)}", _digest(request_json))


def _digest(text: str) -> str:
    # 128 bits are enough to rule out collisions.
    return hashlib.sha256(text.encode()).hexdigest()[:32]

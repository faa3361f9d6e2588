"""RequestKey: a client's name of a request (`Idempotency-Key`), so that the request can be repeated safely."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A key as it is stored. It reveals neither the client's text nor the request."""

    #: Owner and hash of the client's text: two owners' keys are never the same.
    name: str
    #: Hash of endpoint and request. The same key with another fingerprint is refused.
    fingerprint: str

    @classmethod
    def of(cls, text: str, owner: str, endpoint: str, request: Any) -> RequestKey:
        """The key `text` for `request`, a JSON value as it was sent, at `endpoint`."""
        asked = json.dumps([endpoint, request], sort_keys=True, separators=(",", ":"))
        return cls(f"{owner}:{_digest(text)}", _digest(asked))


def _digest(text: str) -> str:
    # 128 bits: no two texts share them by chance.
    return hashlib.sha256(text.encode()).hexdigest()[:32]

"""RequestKey: what a client called a request (`Idempotency-Key`), so that it can be repeated safely."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A key as it is stored: neither the client's text nor the request is told by it."""

    #: Owner and hash of the client's text: two owners' keys never meet.
    name: str
    #: Hash of what was asked. The same key with another fingerprint is refused.
    fingerprint: str

    @classmethod
    def of(cls, text: str, owner: str, endpoint: str, request: Any) -> RequestKey:
        """The key `text` for `request` (validated JSON) at `endpoint`."""
        asked = json.dumps([endpoint, request], sort_keys=True, separators=(",", ":"))
        return cls(f"{owner}:{_digest(text)}", _digest(asked))


def _digest(text: str) -> str:
    # 128 bits: nobody finds two texts that share them by chance.
    return hashlib.sha256(text.encode()).hexdigest()[:32]

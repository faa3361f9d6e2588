"""Auth: whose request this is, by its bearer key."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from shared.errors import invalid_request

#: The owner of everything while no keys are set.
PUBLIC = "public"


class Keys:
    """The accepted API keys. None at all: everybody is PUBLIC."""

    def __init__(self, api_keys: Iterable[str]) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in api_keys]

    def owner(self, authorization: str | None) -> str:
        """A stable name that does not tell the key. Raises RequestError (401)."""
        if not self._digests:
            return PUBLIC
        scheme, _, key = (authorization or "").partition(" ")
        given = hashlib.sha256(key.strip().encode()).digest()
        # All of them are compared, in constant time: nothing is told by how long it takes.
        is_known = sum([hmac.compare_digest(given, digest) for digest in self._digests])
        if scheme.lower() != "bearer" or not is_known:
            message = "Incorrect API key provided."
            raise invalid_request(message, code="invalid_api_key", status=401)
        return f"key-{given.hex()[:24]}"

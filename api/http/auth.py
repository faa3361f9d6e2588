"""Auth: whose request this is, by its bearer key."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from shared.errors import invalid_request

#: The owner of everything while no keys are set.
PUBLIC = "public"
#: Methods that change nothing; what they answer is kept from other sites by the browser.
_READING = frozenset({"GET", "HEAD", "OPTIONS"})


def refuse_cross_site(method: str, fetch_site: str | None) -> None:
    """No page of another site may act through its visitor's browser (https://www.w3.org/TR/fetch-metadata/).

    Raises RequestError (403).
    """
    if fetch_site == "cross-site" and method not in _READING:
        message = "Pages of other sites may not do this while no API keys are set."
        raise invalid_request(message, code="cross_site_request", status=403)


class Keys:
    """The accepted API keys. None at all: everybody is PUBLIC."""

    def __init__(self, api_keys: Iterable[str]) -> None:
        self._digests = [hashlib.sha256(key.encode()).digest() for key in api_keys]

    @property
    def is_open(self) -> bool:
        """Whether whoever reaches the port may do everything."""
        return not self._digests

    def owner(self, authorization: str | None) -> str:
        """A stable name that does not tell the key. Raises RequestError (401)."""
        if self.is_open:
            return PUBLIC
        scheme, _, key = (authorization or "").partition(" ")
        given = hashlib.sha256(key.strip().encode()).digest()
        # All of them are compared, in constant time: nothing is told by how long it takes.
        is_known = sum([hmac.compare_digest(given, digest) for digest in self._digests])
        if scheme.lower() != "bearer" or not is_known:
            message = "Incorrect API key provided."
            raise invalid_request(message, code="invalid_api_key", status=401)
        return f"key-{given.hex()[:24]}"

"""Auth: who calls, by API key, and what the caller may do."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from shared.errors import invalid_request

#: `inference`: own jobs and models. `admin`: draining workers, other owners' objects, the priority `high`.
#: `metrics`: reading metrics where these are not public.
Scope = Literal["inference", "admin", "metrics"]

#: The owner of everything while no keys are set.
PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever calls."""

    #: Stable, and not the key. It is stored as the owner of jobs.
    id: str
    scopes: frozenset[Scope]

    @property
    def is_admin(self) -> bool:
        return "admin" in self.scopes

    def require(self, scope: Scope, action: str) -> None:
        """Raises RequestError (403)."""
        if scope not in self.scopes:
            message = f"{action} requires the scope '{scope}', which this API key does not have."
            raise invalid_request(message, code="insufficient_scope", status=403)


_EVERYTHING: frozenset[Scope] = frozenset({"inference", "admin", "metrics"})
_INFERENCE: frozenset[Scope] = frozenset({"inference"})
_PUBLIC = Principal(PUBLIC, _EVERYTHING)


class Keys:
    """The accepted API keys. Without any, everybody is the principal PUBLIC and may do everything."""

    def __init__(self, api_keys: Iterable[str], admin_keys: Iterable[str] = ()) -> None:
        scopes = dict.fromkeys(map(_digest, api_keys), _INFERENCE)
        scopes |= dict.fromkeys(map(_digest, admin_keys), _EVERYTHING)
        self._scopes = scopes

    @property
    def is_open(self) -> bool:
        """Whether whoever reaches the port may do everything."""
        return not self._scopes

    def principal(self, authorizations: Sequence[str]) -> Principal:
        """The caller, by the values of its Authorization headers. Raises RequestError (400, 401)."""
        if self.is_open:
            return _PUBLIC
        if len(authorizations) > 1:
            message = "More than one Authorization header was sent."
            raise invalid_request(message, code="invalid_authorization")
        scheme, _, key = (authorizations[0] if authorizations else "").partition(" ")
        given = _digest(key.strip())
        # All keys are compared, each in constant time: how long it takes says nothing.
        found = [scopes for digest, scopes in self._scopes.items() if hmac.compare_digest(given, digest)]
        if scheme.lower() != "bearer" or not found:
            message = "Incorrect API key." if key.strip() else "No API key was sent."
            message += " Send it in the header 'Authorization: Bearer <key>'."
            raise invalid_request(message, code="invalid_api_key", status=401)
        return Principal(f"key-{given.hex()[:24]}", found[0])


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()

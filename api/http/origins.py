"""Origins: which web pages may use the API (CORS), and by which names it is called while it has no keys.

Without keys, a browser on this machine is the only protection against pages of the web: they must not act through it
(https://www.w3.org/TR/fetch-metadata/), nor reach the API under a name of their own that leads to 127.0.0.1 (DNS
rebinding).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from api.http import ignored_parameters
from shared.errors import invalid_request

#: Methods that change nothing. The browser keeps their responses from pages of other origins.
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:/\[\]@]+)(?::\d{1,5})?")
#: Origins of pages that were served from this machine.
LOOPBACK_ORIGIN = r"https?://(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?"
_LOOPBACK_ORIGIN = re.compile(LOOPBACK_ORIGIN)
#: Response headers that pages may read.
EXPOSED = (
    "x-request-id", "x-job-id", ignored_parameters.HEADER, "retry-after", "x-should-retry", "idempotent-replayed"
)  # fmt: skip


class Origins:
    """The origins whose pages may use the API: loopback ones, and those of BATON_CORS_ORIGINS."""

    def __init__(self, origins: Iterable[str] = ()) -> None:
        self.origins = tuple(origins)

    def is_allowed(self, origin: str) -> bool:
        return "*" in self.origins or origin in self.origins or bool(_LOOPBACK_ORIGIN.fullmatch(origin))

    def check(self, method: str, fetch_site: str | None, origin: str | None) -> None:
        """Raises RequestError (403) for an act of another site's page.

        A page that is `same-site` comes from another port or name of this machine; it is allowed by its origin alone.
        """
        if method in _READING or (origin is not None and self.is_allowed(origin)):
            return
        if origin is not None or fetch_site in ("cross-site", "same-site"):
            message = (
                "Web pages of other origins may not do this. BATON_CORS_ORIGINS lists the origins that may."
            )
            raise invalid_request(message, code="cross_site_request", status=403)


def add_cors(app: FastAPI, origins: Origins) -> None:
    """Let pages of these origins call the API and read its responses, errors included. They need no credentials, as
    keys travel in a header."""
    app.add_middleware(
        CORSMiddleware,
        allow_origins=origins.origins,
        allow_origin_regex=LOOPBACK_ORIGIN,
        allow_methods=("GET", "POST", "DELETE"),
        allow_headers=("*",),
        expose_headers=EXPOSED,
    )


def check_loopback_host(hosts: Sequence[str]) -> None:
    """Raises RequestError (403) unless the Host header names this machine. Only HTTP/1.0 clients send none."""
    if any(not _is_loopback(host) for host in hosts):
        message = (
            "While no API keys are set, the Host header must be localhost or a loopback address."
            " Set BATON_API_KEYS to serve other names."
        )
        raise invalid_request(message, code="host_not_allowed", status=403)


def _is_loopback(host: str) -> bool:
    match = _HOST.fullmatch(host)
    name = match[1].strip("[]") if match else ""
    if name.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False

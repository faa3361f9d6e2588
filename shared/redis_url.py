"""read_redis_url: checks the URL of a Redis before anything connects to it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlsplit

EXAMPLE = "redis://:password@host:6379/0"
_SCHEMES = ("redis", "rediss", "unix")
_LAST_PORT = 65_535
#: Characters that end a part of a URL, and how to write them in a password.
_ESCAPES = {"/": "%2F", "#": "%23", "?": "%3F", "[": "%5B", "]": "%5D"}
_FILES = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
#: The options that both redis-py and kombu, Celery's client, accept. Either raises an error for any other one.
_TLS_OPTIONS = (*_FILES, "ssl_password", "ssl_cert_reqs", "ssl_check_hostname")
_CERT_REQS = ("none", "optional", "required")


def read_redis_url(text: str) -> str:
    """Return the URL. Empty text is returned as it is. Raises ValueError, which never quotes the password."""
    if not text:
        return text
    scheme, has_scheme, rest = text.partition("://")
    if not has_scheme:
        raise ValueError(f"has no scheme; write it as {EXAMPLE}, or unix:///path/to/redis.sock")
    if scheme not in _SCHEMES:
        raise ValueError(f"{_named(scheme)}; write the URL of one primary, as in {EXAMPLE}")
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError("contains white space; write it as %20")
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError(_unreadable(rest)) from None
    if url.fragment or "@" in url.path + url.query:
        raise ValueError(_unreadable(rest))
    if scheme == "unix":
        _check_socket(url)
    else:
        _check_server(url, port)
    return text


def _named(scheme: str) -> str:
    if "sentinel" in scheme:
        return "is a Sentinel URL, which is not supported"
    if "cluster" in scheme:
        return "is a cluster URL, which is not supported"
    # A password may stand before the first "://".
    known = scheme if scheme.replace("+", "").isalnum() else "this"
    return f"{known} is not redis, rediss (TLS) or unix"


def _unreadable(rest: str) -> str:
    """Why the URL cannot be split into its parts. `rest` is what follows the scheme."""
    credentials, at, _ = rest.rpartition("@")
    if at and (found := [f"{c} as {code}" for c, code in _ESCAPES.items() if c in credentials]):
        return f"has a user or password with special characters; write {', '.join(found)}"
    host = rest.rpartition("@")[2].split("/")[0]
    if "," in host:
        return f"names several hosts; write one, as in {EXAMPLE}"
    return f"has a port that is not a number from 1 to {_LAST_PORT}; write it as {EXAMPLE}"


def _check_server(url: SplitResult, port: int | None) -> None:
    if not url.hostname:
        raise ValueError(f"names no host; write it as {EXAMPLE}")
    if "," in url.hostname:
        raise ValueError(f"names several hosts; write one, as in {EXAMPLE}")
    if port == 0:
        raise ValueError(f"has a port that is not a number from 1 to {_LAST_PORT}")
    database = url.path.removeprefix("/")
    if database and not (database.isascii() and database.isdigit()):
        raise ValueError(f"has a database that is not a number; write it as {EXAMPLE}")
    for name, value in parse_qsl(url.query, keep_blank_values=True):
        if name not in _TLS_OPTIONS:
            known = ", ".join(_TLS_OPTIONS)
            raise ValueError(
                f"has an unknown option {name!r}; remove it. The options of rediss:// are {known}"
            )
        if url.scheme != "rediss":
            raise ValueError(f"has the option {name}, which needs rediss://")
        _check_tls_option(name, value)


def _check_tls_option(name: str, value: str) -> None:
    if name in _FILES and not Path(value).exists():
        raise ValueError(f"{name}={value}: there is no such file")
    if name == "ssl_cert_reqs" and value not in _CERT_REQS:
        raise ValueError(f"{name}={value}: must be one of {', '.join(_CERT_REQS)}")
    if name == "ssl_check_hostname" and value.lower() not in ("true", "false"):
        raise ValueError(f"{name}={value}: must be true or false")


def _check_socket(url: SplitResult) -> None:
    host = url.netloc.rpartition("@")[2]
    if host or not url.path.strip("/"):
        raise ValueError("has no path; write it with three slashes, as in unix:///path/to/redis.sock")
    for name, value in parse_qsl(url.query, keep_blank_values=True):
        if name != "db":
            raise ValueError(f"has an unknown option {name!r}; remove it. The only option of unix:// is db")
        if not (value.isascii() and value.isdigit()):
            raise ValueError(
                "has a database that is not a number; write it as unix:///path/to/redis.sock?db=0"
            )

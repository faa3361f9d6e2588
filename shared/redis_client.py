"""How Baton's processes connect to Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, ReadOnlyError, ResponseError, TimeoutError

from shared.errors import StoreUnavailable

#: Prefixes of Redis's refusals to write: memory full, disk full, still loading.
_REFUSALS = ("OOM", "MISCONF", "LOADING", "READONLY", "MASTERDOWN")


def connect(url: str, *, timeout_s: float) -> Redis:
    """A client with its own pool. A call whose connection broke is repeated once: the scripts allow it."""
    return Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        **({} if url.startswith("unix:") else {"socket_keepalive": True}),
        retry=Retry(NoBackoff(), 1),
        retry_on_error=[ConnectionError],
    )


@contextmanager
def unavailable_as_error() -> Iterator[None]:
    """Turn "Redis does not answer" and "Redis refuses to write" into StoreUnavailable."""
    try:
        yield
    except (ConnectionError, TimeoutError, ReadOnlyError, OSError) as error:
        raise StoreUnavailable(str(error) or type(error).__name__) from error
    except ResponseError as error:
        if not str(error).startswith(_REFUSALS):
            raise
        raise StoreUnavailable(str(error)) from error

"""Redis client: how Baton's processes connect to Redis."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import cast

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import ConnectionError, OutOfMemoryError, ReadOnlyError, ResponseError, TimeoutError
from redis.typing import EncodableT

from shared.errors import StoreUnavailable

#: Errors with which Redis refuses writes: memory full, disk full, still loading. For a script, Redis 6 wraps the
#: error: `ERR Error running script …: -OOM command not allowed …`.
_REFUSAL = re.compile(r"(?:^|-)(?:OOM|MISCONF|LOADING|READONLY|MASTERDOWN)\b")

#: Maximum number of connections of one client. Further calls wait for one. redis-py's plain pool would raise instead.
_MAX_CONNECTIONS = 64
_POOL_WAIT_S = 5.0

_SERIALIZER = HiredisRespSerializer()


def connect(url: str, *, timeout_s: float) -> Redis:
    """Return a client with its own pool. A call whose connection broke is repeated once, which the scripts allow.

    Under Python 3.11 a call may lose a cancellation, because redis-py writes through `asyncio.wait_for`
    (https://github.com/python/cpython/issues/86296). Cancel a task that calls Redis with `cancel_and_wait`.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_MAX_CONNECTIONS,
        timeout=_POOL_WAIT_S,
        decode_responses=True,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        **({} if url.startswith("unix:") else {"socket_keepalive": True}),
        # RESP2 needs no handshake, so a new connection costs one `connect` and hangs no longer than a call.
        protocol=2,
        # Otherwise redis-py reads its own version from disk for each connection, which takes 5 ms.
        driver_info=None,
        # Not after a timeout: the caller has already waited long enough.
        retry=Retry(NoBackoff(), 1, supported_errors=(ConnectionError,)),
        retry_on_error=[ConnectionError],
    )
    pool.connection_class = _MENDED[pool.connection_class]
    return Redis.from_pool(pool)


class _Mended(AbstractConnection):
    """Fixes redis-py 8.1."""

    def pack_command(self, *args: EncodableT) -> list[bytes]:
        """Pack in C, as redis-py's synchronous client does. Its asyncio client takes a microsecond an argument."""
        return cast(list[bytes], _SERIALIZER.pack(*args))  # type: ignore[arg-type]  # redis-py's own mistake

    async def _send_packed_command(self, command: Iterable[bytes]) -> None:
        # Under uvloop, writing to a connection that was reset raises RuntimeError. redis-py does not handle it: the
        # call would neither be repeated nor count as a broken connection.
        try:
            await super()._send_packed_command(command)
        except RuntimeError as error:
            raise ConnectionError("the connection is closed") from error


class _Tcp(_Mended, Connection):
    pass


class _Tls(_Mended, SSLConnection):
    pass


class _Unix(_Mended, UnixDomainSocketConnection):
    pass


_MENDED: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: _Tcp,
    SSLConnection: _Tls,
    UnixDomainSocketConnection: _Unix,
}


@contextmanager
def unavailable_as_error() -> Iterator[None]:
    """Raise StoreUnavailable when Redis does not answer or refuses a write."""
    try:
        yield
    except (ConnectionError, TimeoutError, ReadOnlyError, OutOfMemoryError, OSError) as error:
        raise StoreUnavailable(str(error) or type(error).__name__) from error
    except ResponseError as error:
        if not _REFUSAL.search(str(error)):
            raise
        raise StoreUnavailable(str(error)) from error

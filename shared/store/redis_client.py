"""Redis client: how Baton's processes connect to Redis."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    ConnectionError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.typing import EncodableT

from shared.errors import ScriptFailed, SettingsError, StoreUnavailable

logger = logging.getLogger(__name__)
S = TypeVar("S")
P = ParamSpec("P")
T = TypeVar("T")

#: What a script's error names besides its cause. Redis 6: `Error running script (call to f_…): @user_script:7: …`,
#: Redis 7: `… script: …, on @user_script:7.`
_SCRIPT = re.compile(r"user_script|Error compiling script")
#: The word with which an error of Redis begins: `BUSY`, `-OOM`, …
_WORD = re.compile(r"(?:^|: |-)([A-Z]{3,})\b")
#: Errors that say that a key holds something else than Baton stores there.
_FOREIGN_DATA = "WRONGTYPE"
#: What Python raises when a reply is not of the form that its reader expects.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError)

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
        # Anybody can write bytes that are not text to a key that Baton reads.
        encoding_errors="surrogateescape",
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
        try:
            return cast(list[bytes], _SERIALIZER.pack(*args))  # type: ignore[arg-type]  # redis-py's own mistake
        except UnicodeEncodeError:  # an id with bytes that are not text, as it was read
            return super().pack_command(*args)

    async def _read_response_from_parser(self, *args: Any, **options: Any) -> Any:
        """Read a reply. One that is no reply of Redis breaks the connection."""
        try:
            return await super()._read_response_from_parser(*args, **options)
        except UNREADABLE as error:
            raise ConnectionError("Redis sent what is no reply") from error

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
    """Raise StoreUnavailable for whatever Redis answers but a result.

    Whoever calls Redis waits and tries again. That is right for every error word, also for those that this version does
    not know: what is refused now (busy, loading, read-only, full, no replicas, no permission) may be accepted later. A
    script's own fault is a ScriptFailed.
    """
    try:
        yield
    except (RedisError, OSError) as error:
        text = str(error) or type(error).__name__
        if _is_script_fault(error, text):
            logger.error("a script failed: %s", text)
            raise ScriptFailed(text) from error
        raise StoreUnavailable(text) from error
    except UNREADABLE as error:
        # Either a mistake of Baton's or a reply that was damaged on its way.
        logger.exception("cannot read Redis's reply")
        raise StoreUnavailable("cannot read Redis's reply") from error


def _is_script_fault(error: Exception, text: str) -> bool:
    """Whether a script failed on what it found, and not because Redis refused one of its commands."""
    if not isinstance(error, ResponseError):
        return False
    if _FOREIGN_DATA in text:  # of a pipeline, the error begins with the command
        return True
    code = error.status_code
    word = _WORD.search(text) if code in (None, "ERR") else None
    code = word[1] if word else code
    return code in (None, "ERR") and _SCRIPT.search(text) is not None


def reads_replies(store: type[S]) -> type[S]:
    """Make the public coroutine methods of a class do what they do within `unavailable_as_error`.

    Not only the call to Redis: a damaged reply also shows where its parts are read.
    """
    for name, method in list(vars(store).items()):
        if inspect.iscoroutinefunction(method) and not name.startswith("_"):
            setattr(store, name, _reading(method))
    return store


def _reading(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    @functools.wraps(method)
    async def read(*args: P.args, **options: P.kwargs) -> T:
        with unavailable_as_error():
            return await method(*args, **options)

    return read


def check_access(urls: Mapping[str, str], *, timeout_s: float = 2.0) -> None:
    """Call each Redis once, at the start of a process. `urls`: by the variable that holds the URL.

    Raises SettingsError if a server refuses the user or the database that its URL names, because waiting would not
    help. Ignores any other failure: Redis may come later, and all that use it say so until then.
    """
    for url, variable in {url: variable for variable, url in urls.items() if url}.items():
        asyncio.run(_check_access(variable, url, timeout_s))


async def _check_access(variable: str, url: str, timeout_s: float) -> None:
    redis = connect(url, timeout_s=timeout_s)
    try:
        with unavailable_as_error():
            await redis.ping()
    except StoreUnavailable as error:
        if isinstance(error.__cause__, _DENIED) or "DB index is out of range" in str(error):
            raise SettingsError(f"{variable}: Redis refuses access: {error}") from error
    finally:
        await redis.aclose()


_DENIED = (AuthenticationError, AuthenticationWrongNumberOfArgsError, NoPermissionError)

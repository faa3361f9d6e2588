"""WakeUpConnection: kombu's connection to Redis, with fixes for workers that lose their connection."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from queue import Empty
from typing import Any

from kombu import Connection
from kombu.transport.redis import Channel, QoS, Transport
from redis import ConnectionPool, Redis
from redis.exceptions import RedisError

from shared.store.redis_client import UNREADABLE

logger = logging.getLogger(__name__)

_RETRY = {"interval_start": 1, "interval_step": 0, "interval_max": 1}


class FleetingPool(ConnectionPool):
    """Closes each connection when it is released."""

    def release(self, connection: Any) -> None:
        connection.disconnect()
        super().release(connection)


class WakeUpQoS(QoS):  # type: ignore[misc]  # kombu is untyped
    """The messages that were not acknowledged yet."""

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Queue a message again. Drops what is no message: kombu would fail on it again and again."""
        try:
            super().restore_by_tag(tag, client, leftmost)
        except UNREADABLE as error:
            logger.warning("dropped what cannot be queued again: %s", type(error).__name__)
            self._remove_from_indices(tag).execute()


class WakeUpChannel(Channel):  # type: ignore[misc]
    """A channel that one call of `close` closes completely, in whatever state the connection is."""

    QoS = WakeUpQoS
    _caller: Redis | None = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Use one client for all calls with the same pool.

        kombu creates one for each call, several for each wake-up, with tables of all commands. That takes an eighth of
        its thread's time.
        """
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._caller is None or self._caller.connection_pool is not self.pool:
            self._caller = super()._create_client()
        return self._caller

    def _brpop_read(self, **options: Any) -> Any:
        """Read a message. What is no message of Celery is dropped: anybody may write to the queue's list."""
        try:
            return super()._brpop_read(**options)
        except UNREADABLE as error:
            logger.warning("dropped what is no Celery message: %s", type(error).__name__)
            # If it was the reply that was damaged, the next one may be as well. kombu connects again.
            self.client.connection.disconnect()
            raise Empty from error

    def close(self) -> None:
        """Close again if closing fails.

        kombu first reads the reply of the call that waits for a message. If that fails, kombu leaves the rest to a
        second `close`. By then the transport is gone, and an AttributeError ends the worker (kombu 5.7, when Redis is
        killed while a slot is free).
        """
        try:
            super().close()
        except self.connection_errors:
            super().close()

    def _get_pool(self, asynchronous: bool = False) -> Any:
        """Use a pool that keeps no connections once the channel is closed.

        A closed channel still acknowledges its messages when their jobs end. kombu creates a new pool for that and
        never closes it, which leaks a file descriptor for each broken connection.
        """
        if self.closed:
            return FleetingPool(**self._connparams(asynchronous=asynchronous))
        return super()._get_pool(asynchronous=asynchronous)


class WakeUpTransport(Transport):  # type: ignore[misc]
    """A transport that leaves the event loop when its connection is closed."""

    Channel = WakeUpChannel
    #: Celery connects again whatever Redis answers. By default an error word, or a damaged reply, ends the worker.
    connection_errors = (*Transport.connection_errors, *Transport.channel_errors, RedisError, *UNREADABLE)

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._leave: Callable[[], None] = lambda: None

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Remember the callbacks that kombu adds, to remove them when the connection is closed.

        kombu 5.7 never removes its callbacks from the loop, which keeps each broken connection in memory.
        """
        others = frozenset(loop.on_tick)
        super().register_with_event_loop(connection, loop)
        self._leave = partial(loop.on_tick.difference_update, loop.on_tick - others)

    def close_connection(self, connection: Any) -> None:
        self._leave()
        super().close_connection(connection)


class WakeUpConnection(Connection):  # type: ignore[misc]
    """Set as `app.amqp.Connection`, because a URL cannot name both a custom transport and a Unix socket."""

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        """Try every second. By default kombu waits up to half a minute, although Redis may be back."""
        return super().ensure_connection(*args, **(_RETRY | options))

    def get_transport_cls(self) -> Any:
        return WakeUpTransport

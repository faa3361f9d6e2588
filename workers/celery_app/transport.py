"""WakeUpConnection: kombu's connection to Redis, with fixes for workers that lose their connection."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from kombu import Connection
from kombu.transport.redis import Channel, Transport
from redis import ConnectionPool, Redis

_RETRY = {"interval_start": 1, "interval_step": 0, "interval_max": 1}


class FleetingPool(ConnectionPool):
    """Closes each connection when it is released."""

    def release(self, connection: Any) -> None:
        connection.disconnect()
        super().release(connection)


class WakeUpChannel(Channel):  # type: ignore[misc]  # kombu is untyped
    """A channel that one call of `close` closes completely, in whatever state the connection is."""

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

"""WakeUpConnection: kombu's connection to Redis, mended where it ends a worker that lost its connection."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from kombu import Connection
from kombu.transport.redis import Channel, Transport
from redis import ConnectionPool, Redis

_RETRY = {"interval_start": 1, "interval_step": 0, "interval_max": 1}


class FleetingPool(ConnectionPool):
    """Keeps no connection open that nobody uses."""

    def release(self, connection: Any) -> None:
        connection.disconnect()
        super().release(connection)


class WakeUpChannel(Channel):  # type: ignore[misc]  # kombu is untyped
    """A channel that is closed by one `close`, whatever the connection does, and leaves nothing open."""

    _caller: Redis | None = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        """One for all calls by the same pool. kombu makes one for each, several a wake-up, with tables of all
        commands: an eighth of what its thread does."""
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._caller is None or self._caller.connection_pool is not self.pool:
            self._caller = super()._create_client()
        return self._caller

    def close(self) -> None:
        """Closing reads the reply of the call that waits for a message first. When that fails kombu leaves
        the rest for a second `close`, which finds the transport gone: AttributeError, and the worker ends
        (kombu 5.7, Redis killed while a slot is free)."""
        try:
            super().close()
        except self.connection_errors:
            super().close()

    def _get_pool(self, asynchronous: bool = False) -> Any:
        """A closed channel still gives back what it delivered, and acknowledges it when the jobs end: by a
        pool that kombu makes then and nobody closes, a descriptor for each connection that broke."""
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
        """kombu never takes out what it has called at each turn of the loop: each connection that broke would
        stay for good, with all that hangs on it (kombu 5.7)."""
        others = frozenset(loop.on_tick)
        super().register_with_event_loop(connection, loop)
        self._leave = partial(loop.on_tick.difference_update, loop.on_tick - others)

    def close_connection(self, connection: Any) -> None:
        self._leave()
        super().close_connection(connection)


class WakeUpConnection(Connection):  # type: ignore[misc]
    """To be set as `app.amqp.Connection`: no URL can name a transport of one's own and a Unix socket."""

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        """Tried each second: kombu lets a worker wait up to half a minute for a Redis that is back."""
        return super().ensure_connection(*args, **(_RETRY | options))

    def get_transport_cls(self) -> Any:
        return WakeUpTransport

"""StallGuard: cuts a client that does not read what is written to it."""

from __future__ import annotations

import asyncio

from api.http.serving.sockets import reset_on_close

#: Seconds in which a client must read something of what waits for it. The system does not end such a connection: a
#: client that reads nothing still acknowledges the probes.
STALL_S = 30.0


class StallGuard:
    """Looks at one connection while something waits to be written to it."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._unwritten = 0
        self._timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Nothing more is written until the client has read: from now on it must do so."""
        if self._timer is None:
            self._look_later()

    def stop(self) -> None:
        """The client has read, or is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        self._unwritten = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(STALL_S, self._look) if self._unwritten else None

    def _look(self) -> None:
        if self._transport.get_write_buffer_size() < self._unwritten:
            self._look_later()
        else:
            self._timer = None
            reset_on_close(self._transport.get_extra_info("socket"))
            self._transport.abort()

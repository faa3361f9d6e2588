"""Socket options: how much the system buffers for a client, and how it notices that a client has vanished."""

from __future__ import annotations

import socket
import struct

#: Bytes that the system buffers for a client, where it lets us limit them. Without a limit it buffers megabytes, and
#: while a client reads these slowly, for minutes, its connection would look as if it had stalled.
_MAX_UNSENT_BYTES = 64 * 1024
#: A client that acknowledges nothing for this long has vanished without closing its connection.
_VANISHED_S = 30
#: A connection without traffic is probed after this long, and as often again: a client that waits for a whole answer is
#: sent nothing else.
_PROBE_S = 10

#: Options of TCP by name, as not every system has all of them.
OPTIONS = {
    "TCP_NOTSENT_LOWAT": _MAX_UNSENT_BYTES,
    "TCP_USER_TIMEOUT": 1000 * _VANISHED_S,
    "TCP_KEEPIDLE": _PROBE_S,
    "TCP_KEEPALIVE": _PROBE_S,  # macOS's name for TCP_KEEPIDLE
    "TCP_KEEPINTVL": _PROBE_S,
    "TCP_KEEPCNT": _VANISHED_S // _PROBE_S,
}


def set_options(connection: socket.socket) -> None:
    """Set them on a client's connection."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in OPTIONS.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def reset_on_close(connection: socket.socket) -> None:
    """Have the system discard what it holds for a client when the connection is closed. It would try to send it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

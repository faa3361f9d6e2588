"""What the system is asked to do for a client's connection."""

from __future__ import annotations

import socket

from api.http.serving.sockets import OPTIONS, set_options


def test_a_client_that_vanished_is_noticed_within_half_a_minute() -> None:
    with socket.socket() as connection:
        set_options(connection)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        found = {
            name: connection.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
            for name in OPTIONS
            if hasattr(socket, name)
        }
    assert {name: value for name, value in OPTIONS.items() if name in found} == found
    # After this time without traffic it is probed; what is sent must be acknowledged in this time.
    assert OPTIONS["TCP_KEEPIDLE"] + OPTIONS["TCP_KEEPINTVL"] * OPTIONS["TCP_KEEPCNT"] <= 40
    assert OPTIONS["TCP_USER_TIMEOUT"] <= 30_000


def test_a_unix_socket_has_none_of_them() -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        set_options(connection)

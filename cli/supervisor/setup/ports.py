"""Whether the ports that `baton up` needs are free."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import psutil

from cli.errors import StartRefused


def check_ports(host: str, users: Mapping[int, str]) -> None:
    """Raises StartRefused with the first port that is taken; `users` says which setting asks for each."""
    for port, setting in users.items():
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except socket.gaierror as error:
            raise StartRefused(
                f"BATON_HOST={host} is no address of this machine: {error.strerror}"
            ) from error
        with socket.socket(family, kind, protocol) as probe:
            # As servers bind: connections that linger from a server that has ended do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
                probe.listen()
            except OSError as error:
                reason = _owner(port) or error.strerror
                raise StartRefused(f"port {port} ({setting}) cannot be used: {reason}") from error


def _owner(port: int) -> str | None:
    """Who listens on a port, as far as this user may know."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return None
    for connection in connections:
        address = connection.laddr
        if connection.status == psutil.CONN_LISTEN and address and address[1] == port and connection.pid:
            try:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()}) listens on it"
            except psutil.NoSuchProcess:
                return None
    return None

"""Checks that the ports that `baton up` needs are free."""

from __future__ import annotations

import socket
from collections.abc import Mapping

import psutil

from cli.errors import StartRefused


def check_ports(host: str, users: Mapping[int, str]) -> None:
    """Raises StartRefused for the first port in use. `users` maps each port to the setting that it comes from."""
    for port, setting in users.items():
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except socket.gaierror as error:
            raise StartRefused(
                f"BATON_HOST={host} is not an address of this machine: {error.strerror}"
            ) from error
        with socket.socket(family, kind, protocol) as probe:
            # Like a server: connections that linger from an ended server do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
                probe.listen()
            except OSError as error:
                reason = _owner(port) or error.strerror
                raise StartRefused(f"port {port} ({setting}) cannot be used: {reason}") from error


def _owner(port: int) -> str | None:
    """The process that listens on a port, if this user may see it."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return None
    for connection in connections:
        address = connection.laddr
        if connection.status == psutil.CONN_LISTEN and address and address[1] == port and connection.pid:
            try:
                return f"process {connection.pid} ({psutil.Process(connection.pid).name()}) is using it"
            except psutil.NoSuchProcess:
                return None
    return None

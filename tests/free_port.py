"""free_port: finds ports without a listener."""

from __future__ import annotations

import functools
import itertools
import random
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

_FIRST = 10_000
#: The range from which the system chooses ports for clients.
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: Linux's default for the first port of that range.
_FIRST_EPHEMERAL = 32_768


def free_port() -> int:
    """Return a free port of 127.0.0.1 whose next port is free too.

    A server may be started on them later, more than once: the system does not give them to clients, and this process
    returns each port once before it repeats any.
    """
    return next(port for port in _ports() if _is_free(port) and _is_free(port + 1))


@functools.cache
def _ports() -> Iterator[int]:
    """Yield every second port in a random order, repeatedly."""
    ports = list(range(_FIRST, _first_ephemeral() - 1, 2))
    random.SystemRandom().shuffle(ports)  # not by the tests' seed, which another test run may share
    return itertools.cycle(ports)


def _first_ephemeral() -> int:
    try:
        return int(_EPHEMERAL.read_text().split()[0])
    except OSError:
        return _FIRST_EPHEMERAL


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True

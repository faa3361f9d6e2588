"""Ports that nobody listens on."""

from __future__ import annotations

import functools
import itertools
import random
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

_FIRST = 10_000
#: Where the system tells from which port on it gives them to whoever names none.
_GIVEN = Path("/proc/sys/net/ipv4/ip_local_port_range")
#: Linux's, where it is not told.
_FIRST_GIVEN = 32_768


def free_port() -> int:
    """One of 127.0.0.1, with a free one behind it; both were free a moment ago.

    They stay so, and a server may be started on them later, and again: the system gives them to nobody who
    connects, and this process draws no port twice before it drew all.
    """
    return next(port for port in _ports() if _is_free(port) and _is_free(port + 1))


@functools.cache
def _ports() -> Iterator[int]:
    """Each second port, in an order of this process's own, over and over."""
    ports = list(range(_FIRST, _first_given() - 1, 2))
    random.SystemRandom().shuffle(ports)  # not by the tests' seed, which another run may have as well
    return itertools.cycle(ports)


def _first_given() -> int:
    try:
        return int(_GIVEN.read_text().split()[0])
    except OSError:
        return _FIRST_GIVEN


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True

"""The clients of bench.relay: one process that reads many streams with little overhead.

It reads the paths as JSON from stdin. The text of a token is `@<monotonic ns>@`, the time just before it was
appended. After each phase, when all clients have received their tokens, it prints the delays as one JSON line.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from typing import cast

import uvloop

_STAMP = re.compile(rb"@(\d+)@")


class Tally:
    """Collects the delays of all clients in the current phase."""

    def __init__(self, num_clients: int, phases: list[int]) -> None:
        self._num_clients = num_clients
        self._phases = phases
        self._delays_ns: list[int] = []
        self.is_over = asyncio.Event()

    def add(self, delays_ns: list[int]) -> None:
        self._delays_ns += delays_ns
        if len(self._delays_ns) == self._num_clients * self._phases[0]:
            self._report()

    def _report(self) -> None:
        delays = sorted(self._delays_ns)
        self._delays_ns = []
        self._phases.pop(0)
        figures = {
            "at": time.monotonic(),
            "p50_ms": delays[len(delays) // 2] / 1e6,
            "p99_ms": delays[len(delays) * 99 // 100] / 1e6,
        }
        sys.stdout.write(json.dumps(figures) + "\n")
        sys.stdout.flush()
        if not self._phases:
            self.is_over.set()


class Reader(asyncio.Protocol):
    """One stream."""

    def __init__(self, path: str, tally: Tally) -> None:
        self._path = path
        self._tally = tally
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio.Transport.
        cast(asyncio.Transport, transport).write(
            f"GET {self._path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
        if newline and (stamps := _STAMP.findall(whole)):
            self._tally.add([now - int(stamp) for stamp in stamps])


async def read(port: int, paths: list[str], phases: list[int]) -> None:
    """Open all streams and read them to the end of the last phase."""
    tally = Tally(len(paths), phases)
    loop = asyncio.get_running_loop()
    transports = []
    for first in range(0, len(paths), 50):
        opening = (
            loop.create_connection(lambda path=path: Reader(path, tally), "127.0.0.1", port)  # type: ignore[misc]
            for path in paths[first : first + 50]
        )
        transports += [transport for transport, _ in await asyncio.gather(*opening)]
    await tally.is_over.wait()
    for transport in transports:
        transport.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--phases", type=int, nargs="+", required=True, help="tokens per client in each phase"
    )
    options = parser.parse_args()
    uvloop.run(read(options.port, json.loads(sys.stdin.readline()), options.phases))


if __name__ == "__main__":
    main()

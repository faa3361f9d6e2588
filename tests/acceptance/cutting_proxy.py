"""CuttingProxy: a proxy that cuts a server's connections in the middle of a response."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Lock, Thread
from typing import NamedTuple

_PIECE = 65_536
#: RST as soon as it is closed, as a process that died would send it.
_ABORT = struct.pack("ii", 1, 0)


class Cut(NamedTuple):
    """The connection ends right behind this part of the answer, when it comes for the so manieth time."""

    part: bytes
    times: int = 1

    def find(self, answer: bytes) -> int | None:
        """Where; None while it is still to come."""
        end = 0
        for _ in range(self.times):
            start = answer.find(self.part, end)
            if start < 0:
                return None
            end = start + len(self.part)
        return end


class CuttingProxy(ThreadingTCPServer):
    """Each of its first connections gets the next cut; those behind them none."""

    daemon_threads = True

    def __init__(self, port: int, cuts: Sequence[Cut]) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.behind = ("127.0.0.1", port)
        self._cuts = list(cuts)
        self._turn = Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def is_done(self) -> bool:
        """Whether every cut was made."""
        return not self._cuts

    def next_cut(self) -> Cut | None:
        with self._turn:
            return self._cuts.pop(0) if self._cuts else None


class _Connection(BaseRequestHandler):
    server: CuttingProxy

    def handle(self) -> None:
        """One request, and its answer up to the cut."""
        cut, answer = self.server.next_cut(), b""
        with socket.create_connection(self.server.behind) as server:
            asking = Thread(target=self._ask, args=(server,), daemon=True)
            asking.start()
            while piece := server.recv(_PIECE):
                sent, answer = len(answer), answer + piece
                end = None if cut is None else cut.find(answer)
                if end is not None:
                    self.request.sendall(answer[sent:end])
                    self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
                    return
                self.request.sendall(piece)

    def _ask(self, server: socket.socket) -> None:
        try:
            while piece := self.request.recv(_PIECE):
                server.sendall(piece)
        except OSError:
            return  # one of the two is gone


@contextmanager
def cutting(port: int, *cuts: Cut) -> Iterator[CuttingProxy]:
    """A proxy while it runs."""
    with CuttingProxy(port, cuts) as proxy:
        Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.shutdown()

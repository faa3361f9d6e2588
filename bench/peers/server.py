"""Measures a server over HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path

from bench.harness.server_process import free_port
from bench.peers.peer import Peer, PeerUnavailable
from bench.peers.process_group import ProcessGroup
from bench.peers.weights.prompts import Chat
from cli.bench.connection import Connections
from cli.bench.load import Bounds, Level, run_load
from cli.bench.sample import Sample, take_sample

#: vLLM takes 30 to 54 s on two quiet cores, and three times as long on busy ones.
_START_S = 180
#: Interval between attempts during the start.
_POLL_S = 0.05
_REQUEST_S = 60


class Server:
    """A Contestant."""

    def __init__(self, peer: Peer, log: Path) -> None:
        self.name = peer.name
        self.version = peer.version
        self._peer = peer
        self._log = log
        self._url = ""
        self._group: ProcessGroup | None = None

    @property
    def group(self) -> ProcessGroup:
        assert self._group is not None
        return self._group

    def start(self, chat: Chat) -> float:
        port = free_port()
        command = [part.replace("{port}", str(port)) for part in self._peer.command]
        self._url = f"http://127.0.0.1:{port}/v1"
        started = time.perf_counter()
        self._group = ProcessGroup(command, self._peer.environ, self._log)
        while time.perf_counter() - started < _START_S and not self._group.has_ended:
            (sample,) = self.answer([chat], 2, 1, Bounds(1, None))
            if sample.texts:
                return sample.texts[0] - started
            time.sleep(_POLL_S)
        state = "ended" if self._group.has_ended else f"gave no token within {_START_S} s"
        raise PeerUnavailable(f"{state}: {_last_line(self._log)} ({self._log})")

    def answer(self, chats: Sequence[Chat], num_tokens: int, streams: int, bounds: Bounds) -> list[Sample]:
        bodies = [self.body(chat, num_tokens) for chat in chats]

        async def send_all() -> list[Sample]:
            # Use new connections: the server may have closed idle ones between two measurements.
            connections = Connections(self._url, {})

            async def send(number: int, due: float) -> Sample:
                return await take_sample(connections, bodies[number], due, _REQUEST_S)

            try:
                return await run_load(Level("concurrency", streams), bounds, send, seed=0)
            finally:
                connections.close()

        return asyncio.run(send_all())

    def body(self, chat: Chat, num_tokens: int) -> bytes:
        fields = {
            "model": self._peer.model,
            "messages": chat.messages,
            "max_tokens": num_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self._peer.extra,
        }
        return json.dumps(fields).encode()

    def stop(self) -> None:
        if self._group is not None:
            self._group.stop()
            self._group = None


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace", encoding="utf-8").split("\n")
    return next((line.strip()[-300:] for line in reversed(lines) if line.strip()), "its log is empty")

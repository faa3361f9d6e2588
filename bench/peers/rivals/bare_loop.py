"""Measures the forward loop of loop_process.py, without HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from array import array
from collections.abc import Sequence
from pathlib import Path

from bench.peers.peer import PeerUnavailable
from bench.peers.process_group import ProcessGroup
from bench.peers.weights.prompts import Chat
from cli.bench.load import Bounds
from cli.bench.sample import Sample


class BareLoop:
    """A Contestant that finishes one batch before it starts the next."""

    name = "bare loop"

    def __init__(self, model: Path, threads: int, version: str, log: Path) -> None:
        self.version = version
        self._command = [sys.executable, "-m", "bench.peers.rivals.loop_process", "--model", str(model)]
        self._command += ["--threads", str(threads)]
        self._log = log
        self._group: ProcessGroup | None = None

    @property
    def group(self) -> ProcessGroup:
        assert self._group is not None
        return self._group

    def start(self, chat: Chat) -> float:
        started = time.perf_counter()
        self._group = ProcessGroup(
            self._command, {}, self._log, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self._run([chat], 2)[0] - started

    def answer(self, chats: Sequence[Chat], num_tokens: int, streams: int, bounds: Bounds) -> list[Sample]:
        samples: list[Sample] = []
        started = time.perf_counter()
        for first in range(0, len(chats), streams):
            sent = time.perf_counter()
            if not bounds.allows(first, sent - started):
                break
            batch = chats[first : first + streams]
            times = self._run(batch, num_tokens)
            samples += [_sample(chat, sent, times) for chat in batch]
        return samples

    def _run(self, chats: Sequence[Chat], num_tokens: int) -> list[float]:
        """Raises PeerUnavailable if the process has ended."""
        stdin, stdout = self.group.pipes
        try:
            stdin.write(json.dumps([[chat.token_ids for chat in chats], num_tokens]).encode() + b"\n")
            stdin.flush()
            times: list[float] = json.loads(stdout.readline())
        except (BrokenPipeError, ValueError) as error:
            raise PeerUnavailable(f"the loop process has ended; see {self._log}") from error
        return times

    def stop(self) -> None:
        if self._group is not None:
            self._group.stop()
            self._group = None


def _sample(chat: Chat, sent: float, times: Sequence[float]) -> Sample:
    return Sample(
        intended=sent,
        sent=sent,
        ended=times[-1],
        texts=array("d", times),
        completion_tokens=len(times),
        prompt_tokens=len(chat.token_ids),
    )

"""GrammarSandbox: a grammar is compiled in a process of its own first, which may take too long or too much.

The library's bounds do not cover what compiling itself costs, and recursion deep enough ends the process.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from threading import Lock
from typing import TextIO

from shared.domain.constraint import Constraint
from workers.engine.constraints.grammar import GrammarError, compile_grammar, make_tokenizer

#: What one grammar may take.
TRIAL_S = 2.0
TRIAL_BYTES = 64 << 20
#: Half of what the thread has, at least, that compiles afterwards (2 MiB where there is no limit, by glibc).
_STACK_BYTES = 1 << 20
#: The child's own start, on a machine that is busy.
_START_S = 60.0
_NICENESS = 10


class GrammarSandbox:
    """Owns the process: started when it is first needed, anew when a grammar has ended it. For any thread.

    The process ends with its parent, whatever ends that one: its standard input is closed then.
    """

    def __init__(
        self, tokens: Sequence[bytes], *, limit_s: float = TRIAL_S, limit_bytes: int = TRIAL_BYTES
    ) -> None:
        """What one grammar may take: seconds of the clock, and memory beside that of the process itself."""
        self._tokens = tokens
        self._limit_s = limit_s
        self._limit_bytes = limit_bytes
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None

    def check(self, constraint: Constraint) -> None:
        """Blocking. Raises GrammarError for what cannot be compiled within the bounds."""
        with self._lock:
            answer = _ask(self._running(), constraint)
            if not answer:
                self._stop()
                bounds = f"{self._limit_s:g} s or {self._limit_bytes >> 20} MiB"
                raise GrammarError(f"it is nested too deeply, or takes more than {bounds}")
        complaint = json.loads(answer)
        if complaint is not None:
            raise GrammarError(complaint)

    def close(self) -> None:
        """End the process; the next check starts another one."""
        with self._lock:
            self._stop()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is not None:
            self._stop()  # somebody else ended it: no fault of a grammar
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(self._limit_s), str(self._limit_bytes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            _send(self._process, [token.hex() for token in self._tokens])
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _ask(process: subprocess.Popen[str], constraint: Constraint) -> str:
    """The line that it answers; nothing where it has ended. It ends itself in time."""
    assert process.stdout is not None
    _send(process, asdict(constraint))
    return process.stdout.readline()


def _send(process: subprocess.Popen[str], message: object) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has ended: its answer is none
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()


def main(lines: Iterable[str], answers: TextIO, *, limit_s: float, limit_bytes: int) -> None:
    """The child: the vocabulary, then grammars, one a line."""
    os.nice(_NICENESS)
    signal.setitimer(signal.ITIMER_REAL, _START_S)
    lines = iter(lines)
    tokenizer = make_tokenizer([bytes.fromhex(token) for token in json.loads(next(lines))])
    resource.setrlimit(resource.RLIMIT_STACK, (_STACK_BYTES, _STACK_BYTES))
    limit = _address_space() + limit_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.setitimer(signal.ITIMER_REAL, 0)
    for line in lines:
        constraint = Constraint.decode(json.loads(line))
        assert constraint is not None
        # Nobody handles its signal, which ends the process in the middle of whatever it does.
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        complaint = None
        try:
            compile_grammar(tokenizer, constraint)
        except GrammarError as error:
            complaint = str(error)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(complaint), file=answers, flush=True)


def _address_space() -> int:
    """Bytes of it that are in use."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main(sys.stdin, sys.stdout, limit_s=float(sys.argv[1]), limit_bytes=int(sys.argv[2]))

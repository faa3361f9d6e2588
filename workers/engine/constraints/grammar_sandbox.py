"""GrammarSandbox: compiles a grammar in a separate process first, because it may take too much time or
memory.

The library's limits do not cover compilation itself, and deep recursion crashes the process.
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
from pathlib import Path
from threading import Lock
from typing import TextIO

from shared.domain.constraint import Constraint
from workers.engine.constraints.grammar import (
    GrammarError,
    compile_grammar,
    make_tokenizer,
    require_no_dead_end,
)

#: Limits for one grammar: seconds and bytes.
MAX_GRAMMAR_S = 2.0
MAX_GRAMMAR_BYTES = 64 << 20
#: At most half the stack of the thread that compiles the grammar afterwards (2 MiB by glibc where there is no
#: limit).
_STACK_BYTES = 1 << 20
#: Time for the child to start, even on a busy machine.
_START_S = 60.0
_NICENESS = 10


class GrammarSandbox:
    """Owns the sandbox process. Thread-safe.

    The process starts when it is first needed, and again after a grammar has ended it. It also ends when its
    parent does, because its standard input is closed then.
    """

    def __init__(
        self, tokens: Sequence[bytes], *, limit_s: float = MAX_GRAMMAR_S, limit_bytes: int = MAX_GRAMMAR_BYTES
    ) -> None:
        """Limits for one grammar: seconds of wall-clock time, and memory in addition to that of the process
        itself."""
        self._tokens = tokens
        self._limit_s = limit_s
        self._limit_bytes = limit_bytes
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None

    def check(self, constraint: Constraint) -> None:
        """Try to compile a constraint. Blocks. Raises: GrammarError if it cannot be compiled within the
        limits."""
        with self._lock:
            answer = _ask(self._running(), constraint)
            if not answer:
                self._stop()
                limits = f"{self._limit_s:g} s or {self._limit_bytes >> 20} MiB"
                raise GrammarError(f"it is nested too deeply, or takes more than {limits} to compile")
        error = json.loads(answer)
        if error is not None:
            raise GrammarError(error)

    def close(self) -> None:
        """Stop the process. The next check starts another one."""
        with self._lock:
            self._stop()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is not None:
            self._stop()  # ended from outside, not by a grammar
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(self._limit_s), str(self._limit_bytes)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
            )
            _send(self._process, [token.hex() for token in self._tokens])
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _ask(process: subprocess.Popen[str], constraint: Constraint) -> str:
    """Return the child's answer, or an empty string if it has ended. The child enforces the time limit
    itself."""
    assert process.stdout is not None
    _send(process, asdict(constraint))
    return process.stdout.readline()


def _send(process: subprocess.Popen[str], message: object) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # the child has ended: reading its answer will show it
        process.stdin.write(json.dumps(message) + "\n")
        process.stdin.flush()


def main(lines: Iterable[str], answers: TextIO, *, limit_s: float, limit_bytes: int) -> None:
    """Entry point of the child. Reads the vocabulary, then one grammar per line."""
    os.nice(_NICENESS)
    signal.setitimer(signal.ITIMER_REAL, _START_S)
    lines = iter(lines)
    tokenizer = make_tokenizer([bytes.fromhex(token) for token in json.loads(next(lines))])
    resource.setrlimit(resource.RLIMIT_STACK, (_STACK_BYTES, _STACK_BYTES))
    _limit_memory(limit_bytes)
    signal.setitimer(signal.ITIMER_REAL, 0)
    for line in lines:
        constraint = Constraint.decode(json.loads(line))
        assert constraint is not None
        # SIGALRM is not handled: it ends the process whatever it is doing.
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        error_text = None
        try:
            require_no_dead_end(compile_grammar(tokenizer, constraint))
        except GrammarError as error:
            error_text = str(error)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(json.dumps(error_text), file=answers, flush=True)


def _limit_memory(more_bytes: int) -> None:
    """Limit the address space to what is in use now and this much more, where the system reports it."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]
    except OSError:  # macOS does not keep such a limit either
        return
    limit = int(pages) * resource.getpagesize() + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main(sys.stdin, sys.stdout, limit_s=float(sys.argv[1]), limit_bytes=int(sys.argv[2]))

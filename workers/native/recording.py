"""Recording: operations of one step, to be computed again in one call.

Between operations called one by one lies the interpreter: some microseconds each, and the lock that a
worker's other threads want as well.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_recording: Recording | None = None


def perform(operation: Any, arguments: ctypes.Structure, *kept: object) -> None:
    """Computes an operation of the library now, or records it where a recording is made.

    `kept`: what the arguments point at and nobody else holds for as long.
    """
    if _recording is None:
        operation(ctypes.byref(arguments))
    else:
        _recording.add(operation, arguments, kept)


class _Call(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("operation", "arguments")]


def _call(operation: Any, arguments: ctypes.Structure) -> _Call:
    return _Call(ctypes.cast(operation, ctypes.c_void_p), ctypes.addressof(arguments))


class Recording:
    """What is recorded computes with the tensors that it was recorded with: whoever runs it keeps them."""

    def __init__(self, run_calls: Callable[[Any, int], object]) -> None:
        """`run_calls`: of the library."""
        self._run_calls = run_calls
        self._calls: list[tuple[Any, ctypes.Structure]] = []
        self._kept: list[object] = []
        self._table = (_Call * 0)()

    @contextmanager
    def record(self) -> Iterator[None]:
        """Operations called meanwhile are added, and not computed."""
        global _recording
        assert _recording is None
        _recording = self
        try:
            yield
        finally:
            _recording = None
        self._table = (_Call * len(self._calls))(*(_call(*call) for call in self._calls))

    def add(self, operation: Any, arguments: ctypes.Structure, kept: tuple[object, ...]) -> None:
        self._calls.append((operation, type(arguments).from_buffer_copy(arguments)))
        self._kept += kept

    def run(self) -> None:
        """Computes what was recorded."""
        self._run_calls(self._table, len(self._table))

"""Recording: the operations of one step, to run again in a single call.

Calling operations one by one spends some microseconds each in the interpreter, and takes the lock that a
worker's other threads need.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_recording: Recording | None = None


def perform(operation: Any, arguments: ctypes.Structure, *kept: object) -> None:
    """Run an operation of the library now, or add it to the active recording.

    `kept`: objects that the arguments point to and that must stay alive as long.
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
    """Recorded operations, which always use the tensors they were recorded with. The caller keeps those
    alive."""

    def __init__(self, run_calls: Callable[[Any, int], object]) -> None:
        """`run_calls`: the library's function of that name."""
        self._run_calls = run_calls
        self._calls: list[tuple[Any, ctypes.Structure]] = []
        self._kept: list[object] = []
        self._table = (_Call * 0)()

    @contextmanager
    def record(self) -> Iterator[None]:
        """Record the operations called in this context. They are not computed."""
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
        """Run the recorded operations."""
        self._run_calls(self._table, len(self._table))

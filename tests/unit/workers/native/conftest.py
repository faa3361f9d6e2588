from __future__ import annotations

import os
from functools import cache

import pytest

from workers.native import ops
from workers.native.compiler import compile_native
from workers.native.ops import NativeLibrary, load_library

#: What a compiler is told besides.
_BUILDS = {"for this CPU": "", "without AMX": "-mno-amx-bf16 -mno-amx-int8"}


@cache
def _built(flags: str) -> NativeLibrary | None:
    with pytest.MonkeyPatch.context() as patch:
        if flags:
            patch.setenv("CC", f"{os.environ.get('CC') or 'cc'} {flags}")
        path = compile_native()
    return None if path is None else load_library(path)


@pytest.fixture(params=_BUILDS)
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> NativeLibrary:
    """The library for this CPU, and for one like it that has no AMX: all operations are of it."""
    library = _built(_BUILDS[request.param])
    if library is None:
        pytest.skip("no C compiler here, or none that knows of AMX")
    monkeypatch.setattr(ops, "native_library", lambda: library)
    return library

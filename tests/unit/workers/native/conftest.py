from __future__ import annotations

import os
from functools import cache

import pytest

from workers.native import ops
from workers.native.build import compile_native
from workers.native.ops import NativeLibrary, load_library

#: Additional compiler flags.
_BUILDS = {"for this CPU": "", "without AMX": "-mno-amx-bf16 -mno-amx-int8"}
_NARROW_BUILDS = {"for this CPU": "", "without AVX-512": "-mno-avx512f"}


@cache
def _built(flags: str) -> NativeLibrary | None:
    with pytest.MonkeyPatch.context() as patch:
        if flags:
            patch.setenv("CC", f"{os.environ.get('CC') or 'cc'} {flags}")
        path = compile_native()
    return None if path is None else load_library(path)


@pytest.fixture(params=_BUILDS)
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> NativeLibrary:
    """The library for this CPU, and one without AMX. All operations use it."""
    return _use(_BUILDS[request.param], monkeypatch)


@pytest.fixture(params=_NARROW_BUILDS)
def narrow_build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> NativeLibrary:
    """The library for this CPU, and one with vectors half as wide."""
    return _use(_NARROW_BUILDS[request.param], monkeypatch)


def _use(flags: str, monkeypatch: pytest.MonkeyPatch) -> NativeLibrary:
    library = _built(flags)
    if library is None:
        pytest.skip("no C compiler here, or it does not know the extension")
    monkeypatch.setattr(ops, "native_library", lambda: library)
    return library

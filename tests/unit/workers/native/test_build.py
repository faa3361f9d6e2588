from __future__ import annotations

import ctypes
import logging
import shutil
from pathlib import Path

import pytest

from workers.native.build import compile_native

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    return tmp_path / "baton" / "native"


@needs_compiler
def test_the_library_is_built_once_and_has_the_operations(cache: Path) -> None:
    library = compile_native()
    assert library is not None and library.parent == cache
    assert hasattr(ctypes.CDLL(str(library)), "attend_bfloat16")
    built = library.stat()
    assert compile_native() == library
    assert (library.stat().st_ino, library.stat().st_mtime_ns) == (built.st_ino, built.st_mtime_ns)
    assert list(cache.iterdir()) == [library]


def test_without_a_compiler_there_is_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compile_native() is None


@pytest.mark.parametrize("command", ["false", "echo"])
def test_a_failing_compiler_is_logged(
    command: str, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CC", command)
    with caplog.at_level(logging.WARNING):
        assert compile_native() is None
    assert command in caplog.text
    assert not cache.exists() or list(cache.iterdir()) == []


@needs_compiler
def test_an_unwritable_cache_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    library = compile_native()
    assert library is not None and library.is_file()
    shutil.rmtree(library.parent)

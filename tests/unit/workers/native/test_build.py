from __future__ import annotations

import ctypes
import logging
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.host.cpu_info import cpu_flags, read_cpu_info
from workers.native import build, ops
from workers.native.build import build_levels, compile_native, find_native
from workers.native.levels import LEVELS, best_level
from workers.native.ops import native_library

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


@pytest.fixture
def no_cached_library() -> Iterator[None]:
    """`native_library` looks again, in this test and after it."""
    native_library.cache_clear()
    yield
    native_library.cache_clear()


@pytest.mark.usefixtures("no_cached_library")
@pytest.mark.parametrize("content", [b"", b"not a library", b"\x7fELF" + bytes(60)])
def test_a_library_that_does_not_load_is_not_used(
    content: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    library = tmp_path / "broken.so"
    library.write_bytes(content)
    monkeypatch.setattr(ops, "find_native", lambda: library)
    with caplog.at_level(logging.WARNING):
        assert native_library() is None
        assert native_library() is None
    assert len(caplog.records) == 1 and str(library) in caplog.text


@needs_compiler
@pytest.mark.usefixtures("no_cached_library")
def test_a_library_that_lacks_a_function_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    library = tmp_path / "empty.so"
    subprocess.run(["cc", "-shared", "-x", "c", "-", "-o", str(library)], input=b"int a;", check=True)
    monkeypatch.setattr(ops, "find_native", lambda: library)
    assert native_library() is None
    assert "workspace_size" in caplog.text


@needs_compiler
def test_a_build_that_this_cpu_cannot_run_is_not_used(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(build, "_LOAD", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    assert compile_native() is None
    assert "SIGILL" in caplog.text
    assert list(cache.iterdir()) == []


@needs_compiler
def test_a_directory_without_exec_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(build, "_may_execute", lambda directory: tmp_path not in directory.parents)
    library = compile_native()
    assert library is not None and tmp_path not in library.parents
    shutil.rmtree(library.parent)
    monkeypatch.setattr(build, "_may_execute", lambda _: False)
    assert compile_native() is None
    assert "noexec" in caplog.text


@needs_compiler
def test_a_user_without_a_home_directory_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    library = compile_native()
    assert library is not None and library.is_file()
    shutil.rmtree(library.parent)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("sse4_2 avx", None),
        ("avx avx2 bmi1 bmi2 f16c fma abm movbe", "avx2"),
        # What a hypervisor hides is not used, whatever the processor could do.
        ("avx avx2 bmi1 bmi2 f16c fma abm movbe avx512f avx512bw amx_tile amx_bf16", "avx2"),
        ("avx avx2 bmi1 bmi2 f16c fma abm movbe avx512f avx512bw avx512cd avx512dq avx512vl", "avx512"),
    ],
)
def test_the_level_is_the_best_that_the_cpu_has(flags: str, expected: str | None) -> None:
    level = best_level("x86_64", flags.split())
    assert (level and level.name) == expected
    for known in LEVELS["x86_64"]:
        assert best_level("x86_64", known.needs) == known
    assert best_level("riscv64", flags.split()) is None


@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the levels of this test are those of x86-64")
def test_an_image_has_a_library_for_each_level_and_needs_no_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fastest, *_, least = LEVELS["x86_64"]
    if not least.needs <= cpu_flags(read_cpu_info()):
        pytest.skip("this CPU has not even the last level")
    monkeypatch.setitem(LEVELS, "x86_64", (fastest, least))
    prebuilt = tmp_path / "prebuilt"
    built = build_levels(prebuilt)
    assert [path.stem.partition("-")[2] for path in built] == [fastest.name, least.name]
    monkeypatch.setenv("PATH", "")
    found = find_native(prebuilt)
    assert found in built
    program = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).attend_bfloat16"
    subprocess.run([sys.executable, "-c", program, str(found)], check=True)
    # A library of other sources or flags is not taken.
    monkeypatch.setattr(build, "_FLAGS", (*build._FLAGS, "-O2"))
    assert find_native(prebuilt) is None

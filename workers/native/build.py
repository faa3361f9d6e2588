"""Builds the C operations, for this machine's CPU when a worker starts, or for an image.

`python -m workers.native.build workers/native/prebuilt` builds them for every kind of CPU that `levels` knows. A worker
that finds the file for its CPU there needs no compiler.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from shared.host.cpu_info import cpu_flags, read_cpu_info
from workers.native.levels import LEVELS, best_level

logger = logging.getLogger(__name__)

_SOURCES = Path(__file__).with_name("csrc")
_PREBUILT = Path(__file__).with_name("prebuilt")
_MAIN = "ops.c"
#: NaN is computed like any other number, and math functions do not set errno.
_FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-shared", "-fno-math-errno")
_THIS_CPU = ("-march=native",)
#: Seconds after which the compiler is considered broken.
_TIMEOUT_S = 120
#: Loads a library in a process of its own: one with instructions that this CPU lacks ends only that.
_LOAD = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).workspace_size(64)"


def find_native(prebuilt: Path = _PREBUILT) -> Path | None:
    """Return the library of this image for this CPU, or build one. None, and a log line, if neither is possible."""
    level = best_level(platform.machine(), cpu_flags(read_cpu_info()))
    if level is not None:
        library = prebuilt / _prebuilt_name(level.name)
        if library.is_file():
            return library
    return compile_native()


def compile_native() -> Path | None:
    """Build the library, unless it exists, and return its path. None, and a log line, if it cannot be built.

    The compiler is `$CC`, the system's `cc`, or the one of the ziglang package. The file is in the user's
    cache directory. Its name is a hash of the sources, compiler, flags and CPU. It is moved there when
    complete, so that processes that build it at the same time do not disturb each other.
    """
    compiler = _compiler()
    if compiler is None:
        logger.info("no C compiler found: using torch in place of the native operations")
        return None
    try:
        library = _directory() / f"{_name(compiler)}.so"
        if not library.exists():
            _build(compiler, _THIS_CPU, library)
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        logger.warning("%s cannot build %s, using torch instead: %s", compiler[0], _MAIN, reason[-500:])
        return None
    return library


def build_levels(directory: Path) -> list[Path]:
    """Build the library for each level of this machine's architecture. Raises SubprocessError and OSError."""
    compiler = _compiler()
    if compiler is None:
        raise FileNotFoundError("no C compiler found: install cc or the package ziglang, or set CC")
    directory.mkdir(parents=True, exist_ok=True)
    built = []
    for level in LEVELS.get(platform.machine(), ()):
        library = directory / _prebuilt_name(level.name)
        _build(compiler, level.flags, library, check=False)
        built.append(library)
    return built


def _compiler() -> list[str] | None:
    named = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(named[0]):
        return named
    return [sys.executable, "-m", "ziglang", "cc"] if importlib.util.find_spec("ziglang") else None


def _directory() -> Path:
    """The user's cache directory, or a temporary directory if no library can be written there and run.

    Raises OSError if neither can be used.
    """
    for directory in _cache_directories():
        with suppress(OSError):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(directory, os.W_OK) and _may_execute(directory):
            return directory
    temporary = Path(tempfile.mkdtemp(prefix="baton-native-"))
    if not _may_execute(temporary):
        temporary.rmdir()
        raise OSError(
            f"neither the cache directory nor {temporary.parent} allows files to be executed (noexec)"
        )
    return temporary


def _cache_directories() -> Iterator[Path]:
    if given := os.environ.get("XDG_CACHE_HOME"):
        yield Path(given) / "baton" / "native"
        return
    with suppress(RuntimeError):  # a container's user may have no home directory, and no HOME
        yield Path.home() / ".cache" / "baton" / "native"


def _may_execute(directory: Path) -> bool:
    """Whether the file system was not mounted with noexec, as Docker mounts /tmp."""
    return not os.statvfs(directory).f_flag & os.ST_NOEXEC if hasattr(os, "ST_NOEXEC") else True


def _name(compiler: list[str]) -> str:
    return _digest(*compiler, *_FLAGS, *_THIS_CPU, _run([*compiler, "--version"]), _processor())


def _prebuilt_name(level: str) -> str:
    """The name changes with the sources: a file of another version is not found."""
    return f"{_digest(*_FLAGS)}-{level}.so"


def _digest(*parts: str) -> str:
    sources = [path.read_text(encoding="utf-8") for path in sorted(_SOURCES.glob("*.[ch]"))]
    return hashlib.blake2b("\0".join([*sources, *parts]).encode(), digest_size=8).hexdigest()


def _processor() -> str:
    """What `-march=native` depends on, if the system reports it."""
    names = (
        "cpu family",
        "model",
        "stepping",
        "flags",
        "Features",
        "CPU implementer",
        "CPU part",
        "CPU variant",
    )
    fields = [f"{name}: {value}" for name, value in dict.fromkeys(read_cpu_info()) if name in names]
    return "\n".join([platform.machine(), *(fields or [platform.processor()])])


def _build(compiler: list[str], cpu: Sequence[str], library: Path, *, check: bool = True) -> None:
    """Raises SubprocessError and OSError. `check`: the library must load here."""
    with tempfile.TemporaryDirectory(dir=library.parent) as directory:
        built = Path(directory) / library.name
        command = [*compiler, *_FLAGS, *cpu, str(_SOURCES / _MAIN), "-o", str(built), "-lm"]
        # zig keeps what it compiles in the user's home directory, which may be read-only.
        caches = dict.fromkeys(("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"), directory)
        _run(command, {**os.environ, **caches})
        if check:
            _run([sys.executable, "-I", "-c", _LOAD, str(built)])
        built.replace(library)


def _run(command: list[str], environ: dict[str, str] | None = None) -> str:
    result = subprocess.run(
        command,
        env=environ,
        capture_output=True,
        check=True,
        timeout=_TIMEOUT_S,
        encoding="utf-8",
        errors="replace",
    )
    return result.stdout


if __name__ == "__main__":
    for path in build_levels(Path(sys.argv[1])):
        sys.stdout.write(f"{path}\n")

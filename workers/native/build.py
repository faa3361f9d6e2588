"""Builds the C operations for this machine's CPU, once per version."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from shared.host.cpu_info import read_cpu_info

logger = logging.getLogger(__name__)

_SOURCES = Path(__file__).with_name("csrc")
_MAIN = "ops.c"
#: NaN is computed like any other number, and math functions do not set errno.
_FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fPIC", "-shared", "-fno-math-errno")
#: Seconds after which the compiler is considered broken.
_TIMEOUT_S = 120


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
            _build(compiler, library)
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        logger.warning("%s cannot build %s, using torch instead: %s", compiler[0], _MAIN, reason[-500:])
        return None
    return library


def _compiler() -> list[str] | None:
    named = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(named[0]):
        return named
    return [sys.executable, "-m", "ziglang", "cc"] if importlib.util.find_spec("ziglang") else None


def _directory() -> Path:
    """The user's cache directory, or a temporary directory if it cannot be written."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = home / "baton" / "native"
    with suppress(OSError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory if os.access(directory, os.W_OK) else Path(tempfile.mkdtemp(prefix="baton-native-"))


def _name(compiler: list[str]) -> str:
    version = _run([*compiler, "--version"])
    parts = [path.read_text(encoding="utf-8") for path in sorted(_SOURCES.glob("*.[ch]"))]
    text = "\0".join([*parts, *compiler, *_FLAGS, version, _processor()])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _processor() -> str:
    """What `-march=native` depends on, if the system reports it."""
    names = ("cpu family", "model", "flags", "Features")
    return "\n".join(f"{name}: {value}" for name, value in dict.fromkeys(read_cpu_info()) if name in names)


def _build(compiler: list[str], library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as directory:
        built = Path(directory) / library.name
        _run([*compiler, *_FLAGS, str(_SOURCES / _MAIN), "-o", str(built), "-lm"])
        built.replace(library)


def _run(command: list[str]) -> str:
    result = subprocess.run(
        command,
        capture_output=True,
        check=True,
        timeout=_TIMEOUT_S,
        encoding="utf-8",
        errors="replace",
    )
    return result.stdout

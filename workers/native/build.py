"""Compiler: builds the operations of this package for the CPU that it runs on, once a version."""

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
#: What is not a number is computed like any other, and no error is told in errno.
_FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fPIC", "-shared", "-fno-math-errno")
#: Seconds after which a compiler counts as broken.
_TIMEOUT_S = 120


def compile_native() -> Path | None:
    """The library's file; None, with a line in the log, where there is no compiler, or none that can do it.

    The compiler is `$CC`, or the system's `cc`, or that of the package ziglang. The file lies in the user's
    cache, under a name that says what it was made of and for which CPU, and takes its place in one move:
    processes that build it at the same time do not disturb each other.
    """
    compiler = _compiler()
    if compiler is None:
        logger.info("no C compiler: torch computes what lies between the products")
        return None
    try:
        library = _directory() / f"{_name(compiler)}.so"
        if not library.exists():
            _build(compiler, library)
    except (OSError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", None) or str(error)
        logger.warning("%s cannot build %s, torch goes on without: %s", compiler[0], _MAIN, told[-500:])
        return None
    return library


def _compiler() -> list[str] | None:
    named = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(named[0]):
        return named
    return [sys.executable, "-m", "ziglang", "cc"] if importlib.util.find_spec("ziglang") else None


def _directory() -> Path:
    """Of the user; where it cannot be written, one that only this process knows."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = home / "baton" / "native"
    with suppress(OSError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory if os.access(directory, os.W_OK) else Path(tempfile.mkdtemp(prefix="baton-native-"))


def _name(compiler: list[str]) -> str:
    version = _run([*compiler, "--version"])
    parts = [path.read_text() for path in sorted(_SOURCES.glob("*.[ch]"))]
    text = "\0".join([*parts, *compiler, *_FLAGS, version, _processor()])
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _processor() -> str:
    """What `-march=native` goes by, where the system tells it."""
    names = ("cpu family", "model", "flags", "Features")
    return "\n".join(f"{name}: {value}" for name, value in dict.fromkeys(read_cpu_info()) if name in names)


def _build(compiler: list[str], library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as directory:
        built = Path(directory) / library.name
        _run([*compiler, *_FLAGS, str(_SOURCES / _MAIN), "-o", str(built), "-lm"])
        built.replace(library)


def _run(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_TIMEOUT_S)
    return result.stdout

"""What the command line writes and reads under locales that are not UTF-8."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_PROGRAM = """
import sys
from cli.terminal.streams import configure_streams
configure_streams()
sys.stderr.write(ascii(sys.stdin.read()))
sys.stdout.write("\\xe9 \\u952e \\U0001f389 \\udc80")
"""


@pytest.mark.parametrize("encoding", ["ascii", "gbk", "latin-1", "utf-8"])
def test_pipes_are_utf_8(encoding: str) -> None:
    environ = {**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], input="ü 键".encode(), env=environ, capture_output=True, check=True
    )
    assert done.stdout.decode() == "é 键 🎉 ?"
    assert done.stderr.decode() == ascii("ü 键")


def test_a_terminal_keeps_its_encoding() -> None:
    parent, child = os.openpty()
    program = _PROGRAM.replace("sys.stdin.read()", "''")
    environ = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    with os.fdopen(child, "wb") as terminal:
        subprocess.run(
            [sys.executable, "-c", program], stdin=terminal, stdout=terminal, env=environ, check=True
        )
    shown = os.read(parent, 100)
    os.close(parent)
    assert shown == "é ? ? ?".encode("latin-1")


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_help_is_printed_in_any_locale(locale: str) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "--help"], env={**environ, "LC_ALL": locale}, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert "durable LLM inference" in done.stdout.decode()

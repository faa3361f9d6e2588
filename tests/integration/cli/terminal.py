"""Runs a command in a pseudo-terminal and types into it."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import struct
import sys
import termios
import time
from pathlib import Path

from tests.integration.cli.clients import WAIT_S

#: What moves the cursor, colours or erases: CSI and OSC sequences, two-character escapes.
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[ -~])")
#: The beginning of one, whose rest has not been read yet.
_BEGUN = re.compile(rb"\x1b[^@-Z\\^-~]*$|\x1b\[[0-?]*$")
#: How prompt-toolkit writes a prompt that waits: it skips the blank.
PROMPT = ">\b"
CTRL_C, CTRL_D, UP, ENTER = "\x03", "\x04", "\x1b[A", "\r"


class Terminal:
    """80 columns wide. Keeps everything that was shown, without cursor movements."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self._master = master
        self._process = process
        self._shown = b""
        self._seen = 0
        asyncio.get_running_loop().add_reader(master, self._receive)

    @classmethod
    async def start(cls, home: Path, *arguments: str) -> Terminal:
        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli.main", *arguments),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={
                "PATH": os.environ["PATH"],
                "BATON_HOME": str(home),
                "TERM": "xterm",
                "PROMPT_TOOLKIT_NO_CPR": "1",
            },
            start_new_session=True,
            # So that Ctrl-C sends a signal to the command, as in a real terminal.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        return cls(master, process)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    async def expect(self, text: str) -> None:
        """Waits until this text appears after the previously expected one."""
        deadline = time.monotonic() + WAIT_S
        while (found := self._text.find(text, self._seen)) < 0:
            assert self._process.returncode is None and time.monotonic() < deadline, self._shown
            await asyncio.sleep(0.01)
        self._seen = found + len(text)

    async def exit_status(self) -> int:
        async with asyncio.timeout(WAIT_S):
            status = await self._process.wait()
        self._close()
        return status

    async def end(self) -> None:
        """Removes what the test left behind."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._close()

    @property
    def _text(self) -> str:
        return _ESCAPES.sub("", _BEGUN.sub(b"", self._shown).decode(errors="replace"))

    def _receive(self) -> None:
        try:
            self._shown += os.read(self._master, 65_536)
        except OSError:  # the other side is closed
            asyncio.get_running_loop().remove_reader(self._master)

    def _close(self) -> None:
        if self._master >= 0:
            asyncio.get_running_loop().remove_reader(self._master)
            os.close(self._master)
            self._master = -1

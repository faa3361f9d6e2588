"""Short notices on stderr beside a command's output, such as that the connection was lost."""

from __future__ import annotations

import sys
import time

from cli.errors import CommandError

#: Interruptions shorter than this are not reported.
_QUIET_S = 1.0


class Notice:
    """Reports a lost connection. In a terminal, the notice is erased once the connection is back."""

    def __init__(self) -> None:
        self._lost_at: float | None = None
        self._is_shown = False

    def __enter__(self) -> Notice:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def connection_lost(self, error: CommandError) -> None:
        """Call this on each failed attempt to reconnect."""
        self._lost_at = self._lost_at or time.monotonic()
        if not self._is_shown and time.monotonic() - self._lost_at > _QUIET_S:
            self._is_shown = True
            text = f"[{error}; retrying]"
            sys.stderr.write(f"\x1b7\x1b[2m {text}\x1b[0m" if sys.stderr.isatty() else f"{text}\n")
            sys.stderr.flush()

    def clear(self) -> None:
        """Call this when the stream continues or ends."""
        if self._is_shown and sys.stderr.isatty():
            sys.stderr.write("\x1b8\x1b[J")  # back to the end of the answer, erasing what follows
            sys.stderr.flush()
        self._lost_at, self._is_shown = None, False

    @staticmethod
    def show(text: str) -> None:
        """Prints a notice that stays."""
        sys.stderr.write(f"\x1b[2m[{text}]\x1b[0m\n" if sys.stderr.isatty() else f"[{text}]\n")
        sys.stderr.flush()

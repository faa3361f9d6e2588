"""Notice: a line on stderr beside what a command prints, such as that a connection is gone."""

from __future__ import annotations

import sys
import time

from cli.errors import CommandError

#: A cut that is over sooner is not worth a word.
_QUIET_S = 1.0


class Notice:
    """Tells of a connection that stays away; in a terminal it takes its words back when it is there again."""

    def __init__(self) -> None:
        self._cut_at: float | None = None
        self._is_shown = False

    def __enter__(self) -> Notice:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def cut(self, error: CommandError) -> None:
        """The stream was cut, or still is."""
        self._cut_at = self._cut_at or time.monotonic()
        if not self._is_shown and time.monotonic() - self._cut_at > _QUIET_S:
            self._is_shown = True
            text = f"[{error}; trying again]"
            sys.stderr.write(f"\x1b7\x1b[2m {text}\x1b[0m" if sys.stderr.isatty() else f"{text}\n")
            sys.stderr.flush()

    def clear(self) -> None:
        """The stream goes on, or is over."""
        if self._is_shown and sys.stderr.isatty():
            sys.stderr.write("\x1b8\x1b[J")  # back to where the answer stood, and erase what follows
            sys.stderr.flush()
        self._cut_at, self._is_shown = None, False

    @staticmethod
    def tell(text: str) -> None:
        """A remark of its own."""
        sys.stderr.write(f"\x1b[2m[{text}]\x1b[0m\n" if sys.stderr.isatty() else f"[{text}]\n")
        sys.stderr.flush()

"""Makes text from a model or a server safe to print to a terminal."""

from __future__ import annotations

import re
from typing import TextIO

#: Control characters that a terminal interprets: C0 except tab and newline, DEL and C1.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def write_text(stream: TextIO, text: str) -> None:
    """Writes and flushes. For a terminal each control character is replaced; a pipe gets the text unchanged."""
    stream.write(_CONTROLS.sub("�", text) if stream.isatty() else text)
    stream.flush()

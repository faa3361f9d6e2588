"""Text from a model or a server, made safe for a terminal."""

from __future__ import annotations

import re
from typing import TextIO

#: C0 but tab and newline, DEL, C1: what a terminal acts on instead of showing it.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def write_text(stream: TextIO, text: str) -> None:
    """At once. A terminal gets a sign in the place of each control character; a pipe gets what there is."""
    stream.write(_CONTROLS.sub("�", text) if stream.isatty() else text)
    stream.flush()

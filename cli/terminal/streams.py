"""configure_streams: what encoding the command line reads and writes."""

from __future__ import annotations

import sys
from io import TextIOWrapper


def configure_streams() -> None:
    """Use UTF-8 for pipes and files. A terminal keeps its own encoding, and gets `?` for what it cannot show."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if not isinstance(stream, TextIOWrapper):  # a test replaced it, or it is closed
            continue
        encoding = None if stream.isatty() else "utf-8"
        stream.reconfigure(encoding=encoding, errors="strict" if stream is sys.stdin else "replace")

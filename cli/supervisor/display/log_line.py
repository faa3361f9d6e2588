"""Extracts the readable text from a line of a process's log."""

from __future__ import annotations

import json
import re

#: The prefix of a message in the text format of shared.runtime.logs.
_HEAD = re.compile(r"\S+ [A-Z]+ +\S+ \S+: ")


def log_text(line: str) -> str:
    """The message of a line that shared.runtime.logs wrote, with its traceback; other lines are unchanged."""
    try:
        fields = json.loads(line)
    except ValueError:
        return _HEAD.sub("", line, count=1)
    if not isinstance(fields, dict) or "message" not in fields:
        return line
    error = fields.get("error")
    if not isinstance(error, dict):
        return str(fields["message"])
    return "\n".join([str(fields["message"]), *error.get("trace", ()), str(error.get("type"))])

"""LogLine: what a person wants to read of a line of a process's log."""

from __future__ import annotations

import json
import re

#: What shared.runtime.logs puts before a message in its text form.
_HEAD = re.compile(r"\S+ [A-Z]+ +\S+ \S+: ")


def log_text(line: str) -> str:
    """The message of a line that shared.runtime.logs wrote, with the error's type; any other line as it is."""
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

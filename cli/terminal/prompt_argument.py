"""The prompt of a command: its argument, or what stands on standard input."""

from __future__ import annotations

import sys

from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.terminal.notice import Notice


def read_prompt(argument: str | None) -> str:
    """`-`, or none: standard input to its end. Raises CommandError for what is no text, or empty."""
    if argument is not None and argument != "-":
        text = argument
    else:
        if sys.stdin.isatty():
            Notice.tell("the prompt is read from here; Ctrl-D on a line of its own ends it")
        try:
            text = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise CommandError("standard input is no text in UTF-8", ExitCode.USAGE) from error
    try:
        text.encode()
    except UnicodeEncodeError as error:  # bytes of an argument that are no UTF-8
        raise CommandError("the prompt is no text in UTF-8", ExitCode.USAGE) from error
    if not text.strip():
        raise CommandError("the prompt is empty", ExitCode.USAGE)
    return text

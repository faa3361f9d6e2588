"""Reads a command's prompt from its argument or from standard input."""

from __future__ import annotations

import sys

from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.terminal.notice import Notice


def read_prompt(argument: str | None) -> str:
    """`-` or None reads standard input to its end. Raises CommandError if the prompt is not UTF-8 or is empty."""
    if argument is not None and argument != "-":
        text = argument
    else:
        if sys.stdin.isatty():
            Notice.show("type the prompt; end it with Ctrl-D on a line of its own")
        try:
            text = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise CommandError("standard input is not UTF-8 text", ExitCode.USAGE) from error
    try:
        text.encode()
    except UnicodeEncodeError as error:  # the argument has bytes that are not UTF-8
        raise CommandError("the prompt is not UTF-8 text", ExitCode.USAGE) from error
    if not text.strip():
        raise CommandError("the prompt is empty", ExitCode.USAGE)
    return text

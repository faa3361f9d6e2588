"""Errors that end a command."""

from __future__ import annotations

from cli.exit_codes import ExitCode
from shared.errors import BatonError


class CommandError(BatonError):
    """Raised when a command cannot go on; its message is shown and its code is the exit code."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.code = code


class StartRefused(CommandError):
    """Raised when settings or the machine do not allow `baton up` to start."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ExitCode.CONFIG)

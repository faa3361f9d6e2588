"""The errors that end a command."""

from __future__ import annotations

from cli.exit_codes import ExitCode
from shared.errors import BatonError


class CommandError(BatonError):
    """Raised when a command cannot continue. `baton` prints the message and exits with the code."""

    def __init__(self, message: str, code: ExitCode) -> None:
        super().__init__(message)
        self.code = code


class StartRefused(CommandError):
    """Raised when `baton up` cannot start because of a setting or the machine."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ExitCode.CONFIG)

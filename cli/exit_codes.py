"""Exit codes of the `baton` command."""

from __future__ import annotations

from enum import IntEnum

from shared.runtime.exit_codes import EX_CONFIG


class ExitCode(IntEnum):
    """Scripts may rely on these values."""

    #: Success. With --wait or `watch`: the job completed.
    OK = 0
    #: The job failed, expired or was cancelled. `up`: a process could not be started.
    FAILED = 1
    #: The command line or the request was wrong.
    USAGE = 2
    #: No server answers at any of the URLs.
    UNREACHABLE = 3
    #: The job or worker does not exist, or no longer exists.
    NOT_FOUND = 4
    #: The API key was rejected.
    UNAUTHORIZED = 5
    #: A setting is wrong, or the machine lacks something that Baton needs.
    CONFIG = EX_CONFIG
    #: Interrupted by Ctrl-C.
    INTERRUPTED = 130


#: The last paragraph of each command's help.
EXIT_CODES = "Exit codes: " + ", ".join(
    f"{code.value} {meaning}"
    for code, meaning in {
        ExitCode.OK: "success",
        ExitCode.FAILED: "job failed, expired or cancelled, or a check or start failed",
        ExitCode.USAGE: "wrong usage or request",
        ExitCode.UNREACHABLE: "no server answers",
        ExitCode.NOT_FOUND: "not found",
        ExitCode.UNAUTHORIZED: "API key rejected",
        ExitCode.CONFIG: "wrong settings",
        ExitCode.INTERRUPTED: "Ctrl-C",
    }.items()
)

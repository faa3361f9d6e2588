"""Exit codes of the `baton` command."""

from __future__ import annotations

from enum import IntEnum

from shared.runtime.exit_codes import EX_CONFIG


class ExitCode(IntEnum):
    """What a script may rely on."""

    #: Done; with --wait or watch: the job ended as it should.
    OK = 0
    #: The job failed, expired or was cancelled; of `up`: a part could not be started.
    FAILED = 1
    #: The command line or the request was wrong.
    USAGE = 2
    #: No server answers at any of the URLs.
    UNREACHABLE = 3
    #: There is no such job (any more).
    NOT_FOUND = 4
    #: The API key was refused.
    UNAUTHORIZED = 5
    #: A setting is wrong, or the machine lacks something that Baton needs.
    CONFIG = EX_CONFIG
    #: Ended by Ctrl-C.
    INTERRUPTED = 130


#: As each command's help tells them.
EXIT_CODES = "Exit codes: " + ", ".join(
    f"{code.value} {meaning}"
    for code, meaning in {
        ExitCode.OK: "done",
        ExitCode.FAILED: "the job failed, expired or was cancelled, or a check or a start failed",
        ExitCode.USAGE: "wrong usage or request",
        ExitCode.UNREACHABLE: "no server answers",
        ExitCode.NOT_FOUND: "not found",
        ExitCode.UNAUTHORIZED: "API key refused",
        ExitCode.CONFIG: "wrong settings",
        ExitCode.INTERRUPTED: "Ctrl-C",
    }.items()
)

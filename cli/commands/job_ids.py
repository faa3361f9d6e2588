"""Ids of jobs on the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands.completion import complete_job
from cli.errors import CommandError
from cli.exit_codes import ExitCode

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job's id.", autocompletion=complete_job)]
JobsArgument = Annotated[
    list[str], typer.Argument(metavar="JOB…", help="Ids of jobs.", autocompletion=complete_job)
]


def job_id_of(text: str) -> str:
    """Of a job's id, or of its completion's. Raises CommandError."""
    if text.startswith("chatcmpl-"):
        return "job_" + text.removeprefix("chatcmpl-")
    if not text.removeprefix("job_").isalnum():
        raise CommandError(f"{text!r} is not the id of a job", ExitCode.USAGE)
    return text

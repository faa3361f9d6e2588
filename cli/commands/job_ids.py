"""The command-line arguments that take job ids."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands.completion import complete_job
from cli.errors import CommandError
from cli.exit_codes import ExitCode

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job.", autocompletion=complete_job)]
JobsArgument = Annotated[
    list[str], typer.Argument(metavar="JOB…", help="Ids of jobs.", autocompletion=complete_job)
]


def job_id_of(text: str) -> str:
    """The id of the job that a job id or a chat completion's id stands for. Raises CommandError."""
    if text.startswith("chatcmpl-"):
        return "job_" + text.removeprefix("chatcmpl-")
    if not text.removeprefix("job_").isalnum():
        raise CommandError(f"{text!r} is not a job id; `baton jobs` lists them", ExitCode.USAGE)
    return text

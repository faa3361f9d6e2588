"""`baton retry` and `baton delete`: what becomes of jobs that are over."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from cli.client.server_options import JsonOption, Server
from cli.commands.job_ids import JobArgument, JobsArgument, job_id_of
from cli.commands.submit import wait_for_answer


def retry(
    job: JobArgument,
    server: Server,
    wait: Annotated[bool, typer.Option("--wait", help="Stay and print the answer.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Hand in the request of a job that is over once more, as a new job, and print that one's id."""
    with server.client() as client:
        new = client.call("POST", f"/v1/jobs/{job_id_of(job)}/retry")
        if not wait:
            sys.stdout.write(f"{json.dumps(new) if as_json else new['id']}\n")
            return
        sys.stderr.write(f"{new['id']}\n")
        raise typer.Exit(wait_for_answer(client, new["id"], as_json=as_json))


def delete(job: JobsArgument, server: Server) -> None:
    """Forget jobs, with all that they put out. One that is not over is cancelled first."""
    with server.client() as client:
        for job_id in map(job_id_of, job):
            client.call("DELETE", f"/v1/jobs/{job_id}")
            sys.stdout.write(f"{job_id} deleted\n")

"""`baton retry` and `baton delete`: repeats or removes jobs."""

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
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the job and print its answer.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Submit a finished job's request again, as a new job.

    Prints the id of the new job.
    """
    with server.client() as client:
        new = client.call("POST", f"/v1/jobs/{job_id_of(job)}/retry")
        if not wait:
            sys.stdout.write(f"{json.dumps(new) if as_json else new['id']}\n")
            return
        sys.stderr.write(f"{new['id']}\n")
        raise typer.Exit(wait_for_answer(client, new["id"], as_json=as_json))


def delete(job: JobsArgument, server: Server) -> None:
    """Delete jobs and their output.

    Jobs that are queued or running are cancelled first.
    """
    with server.client() as client:
        for job_id in map(job_id_of, job):
            client.call("DELETE", f"/v1/jobs/{job_id}")
            sys.stdout.write(f"{job_id} deleted\n")

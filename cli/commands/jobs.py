"""`baton jobs`, `watch` and `cancel`: lists, follows and cancels jobs."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from cli.client.server_options import JsonOption, Server
from cli.commands.job_ids import JobArgument, JobsArgument, job_id_of
from cli.terminal.event_printer import follow_job
from cli.terminal.polling import poll_job
from cli.terminal.table import print_table

_HEADINGS = ("id", "status", "model", "worker", "position", "eta", "attempts", "tokens", "seconds")


def watch(
    job: JobArgument,
    server: Server,
    poll: Annotated[
        bool, typer.Option("--poll", help="Poll with short requests instead of reading a stream.")
    ] = False,
    cursor: Annotated[
        str | None, typer.Option("--from", metavar="CURSOR", help="Start after the event with this id.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print a job's output as it is generated.

    Starts with the job's first output. With --json prints each event as JSON, with its id. The exit code reports
    how the job ended.
    """
    follow = poll_job if poll else follow_job
    with server.client() as client:
        raise typer.Exit(follow(client, job_id_of(job), as_json=as_json, cursor=cursor or ""))


def jobs(
    server: Server,
    status: Annotated[
        str | None, typer.Option(help="Only jobs with this status: queued, in_progress, completed, …")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Maximum number of jobs.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    query = {"limit": str(limit), **({"status": status} if status else {})}
    with server.client() as client:
        listed = client.call("GET", "/v1/jobs", params=query)
    if as_json:
        sys.stdout.write(json.dumps(listed["data"]) + "\n")
    else:
        print_table(_HEADINGS, map(_row, listed["data"]))


def cancel(job: JobsArgument, server: Server) -> None:
    """Cancel queued or running jobs.

    Jobs that have ended are left as they are.
    """
    with server.client() as client:
        for job_id in map(job_id_of, job):
            ended = client.call("POST", f"/v1/jobs/{job_id}/cancel")
            sys.stdout.write(f"{job_id} {ended['status']}\n")


def _row(job: dict[str, Any]) -> tuple[object, ...]:
    """The cells under `_HEADINGS`."""
    tokens = job["usage"]["completion_tokens"] if job["usage"] else None
    return (
        job["id"],
        "paused" if job.get("paused") else job["status"],
        job["model"],
        job["worker"],
        job["queue_position"],
        job["eta_seconds"],
        job["attempts"],
        tokens,
        job["timing"]["running_s"],
    )

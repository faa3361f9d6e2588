"""`baton submit`: submits a job."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client.api_client import ApiClient
from cli.client.generation_options import GenerationOptions, messages_of, pair_of
from cli.client.server_options import JsonOption, Server
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.terminal.event_printer import await_end, follow_job
from cli.terminal.notice import Notice
from cli.terminal.prompt_argument import read_prompt


def submit(
    options: GenerationOptions,
    server: Server,
    prompt: Annotated[
        str | None, typer.Argument(help="The prompt; `-` or none: read standard input.")
    ] = None,
    body: Annotated[
        Path | None, typer.Option(help="Read the request's JSON body from this file; `-`: standard input.")
    ] = None,
    priority: Annotated[str | None, typer.Option(help="low, normal or high.")] = None,
    expires_after: Annotated[
        float | None, typer.Option(help="Expire the job if it has not started after this many seconds.")
    ] = None,
    cancel_after: Annotated[
        float | None, typer.Option(help="Cancel the job if it has not ended after this many seconds.")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Stored with the job; may be repeated.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Repeating a request with the same key returns the same job.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the job and print its answer.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Submit a job and print its id.

    The job runs whether or not anyone waits for it. With --wait prints the answer, or with --json the finished
    job, and the exit code reports how the job ended.
    """
    limits = {"priority": priority, "expires_after": expires_after, "cancel_after": cancel_after}
    given: dict[str, Any] = {name: value for name, value in limits.items() if value is not None}
    if metadata:
        given["metadata"] = dict(pair_of(text, "--metadata") for text in metadata)
    headers = {"idempotency-key": idempotency_key} if idempotency_key else {}
    with server.client() as client:
        if body is not None:
            request = _read_body(body)
        else:
            messages = messages_of(options.system, read_prompt(prompt))
            request = {**options.body(client), "messages": messages}
        new_job = {"endpoint": "/v1/chat/completions", "body": request, **given}
        job = client.call("POST", "/v1/jobs", json=new_job, headers=headers)
        if not wait:
            sys.stdout.write(f"{json.dumps(job) if as_json else job['id']}\n")
            return
        sys.stderr.write(f"{job['id']}\n")
        raise typer.Exit(wait_for_answer(client, job["id"], as_json=as_json))


def wait_for_answer(client: ApiClient, job_id: str, *, as_json: bool) -> ExitCode:
    """Print the answer as it is generated, or the job as JSON when it ends."""
    try:
        if not as_json:
            return follow_job(client, job_id, as_json=False)
        code = await_end(client, job_id)
        sys.stdout.write(json.dumps(client.call("GET", f"/v1/jobs/{job_id}")) + "\n")
        return code
    except KeyboardInterrupt:
        Notice.show(
            f"the job continues; `baton watch {job_id}` prints it, `baton cancel {job_id}` cancels it"
        )
        raise


def _read_body(path: Path) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        body = json.loads(text)
    except (OSError, ValueError) as error:
        raise CommandError(f"--body {path}: cannot read a JSON object: {error}", ExitCode.USAGE) from error
    if not isinstance(body, dict):
        raise CommandError(f"--body {path}: not a JSON object", ExitCode.USAGE)
    return body

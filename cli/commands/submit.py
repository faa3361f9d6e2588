"""`baton submit`: hand in a job."""

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
    asking: GenerationOptions,
    server: Server,
    prompt: Annotated[str | None, typer.Argument(help="`-`, or none: what stands on standard input.")] = None,
    body: Annotated[
        Path | None, typer.Option(help="A file with the request's JSON body instead; `-`: standard input.")
    ] = None,
    priority: Annotated[str | None, typer.Option(help="low, normal or high.")] = None,
    expires_after: Annotated[float | None, typer.Option(help="Seconds in which it has to start.")] = None,
    cancel_after: Annotated[float | None, typer.Option(help="Seconds in which it has to end.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Kept with the job; may be repeated.")
    ] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Given again with the same request, it names the same job.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay and print the answer.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Hand in a job and print its id. It is done whether or not anybody waits for it.

    With --wait the answer is printed and the exit code tells how the job ended; with --json the job's object.
    """
    options = {"priority": priority, "expires_after": expires_after, "cancel_after": cancel_after}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if metadata:
        given["metadata"] = dict(pair_of(text, "--metadata") for text in metadata)
    headers = {"idempotency-key": idempotency_key} if idempotency_key else {}
    with server.client() as client:
        if body is not None:
            request = _read_body(body)
        else:
            messages = messages_of(asking.system, read_prompt(prompt))
            request = {**asking.body(client), "messages": messages}
        asked = {"endpoint": "/v1/chat/completions", "body": request, **given}
        job = client.call("POST", "/v1/jobs", json=asked, headers=headers)
        if not wait:
            sys.stdout.write(f"{json.dumps(job) if as_json else job['id']}\n")
            return
        sys.stderr.write(f"{job['id']}\n")
        raise typer.Exit(wait_for_answer(client, job["id"], as_json=as_json))


def wait_for_answer(client: ApiClient, job_id: str, *, as_json: bool) -> ExitCode:
    """Print the answer as it comes, or the job when it is over."""
    try:
        if not as_json:
            return follow_job(client, job_id, as_json=False)
        code = await_end(client, job_id)
        sys.stdout.write(json.dumps(client.call("GET", f"/v1/jobs/{job_id}")) + "\n")
        return code
    except KeyboardInterrupt:
        Notice.tell(f"the job goes on: `baton watch {job_id}` shows it, `baton cancel {job_id}` ends it")
        raise


def _read_body(path: Path) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        body = json.loads(text)
    except (OSError, ValueError) as error:
        raise CommandError(f"{path}: {error}", ExitCode.USAGE) from error
    if not isinstance(body, dict):
        raise CommandError(f"{path} holds no JSON object", ExitCode.USAGE)
    return body

"""`baton submit`, `watch`, `jobs` and `cancel`: requests that outlive their connection."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.api_client import ApiClient
from cli.endpoint import JsonOption, KeyOption, UrlOption, find_endpoint
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.request import (
    MaxTokensOption,
    ModelOption,
    SeedOption,
    SystemOption,
    TemperatureOption,
    TopPOption,
    chat_body,
    default_model,
    user_messages,
)
from cli.table import print_table
from cli.watching import follow_job

_HEADINGS = ("id", "status", "model", "worker", "position", "attempts", "tokens", "seconds")
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="A job's id.")]
_Priority = Annotated[str | None, typer.Option(help="low, normal or high.")]


def submit(
    prompt: Annotated[str | None, typer.Argument(help="Default: what stands on standard input.")] = None,
    body: Annotated[Path | None, typer.Option(help="A file with the request's JSON body instead.")] = None,
    model: ModelOption = None,
    system: SystemOption = None,
    max_tokens: MaxTokensOption = None,
    temperature: TemperatureOption = None,
    top_p: TopPOption = None,
    seed: SeedOption = None,
    priority: _Priority = None,
    expires_after: Annotated[float | None, typer.Option(help="Seconds in which it has to start.")] = None,
    cancel_after: Annotated[float | None, typer.Option(help="Seconds in which it has to end.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay and print the answer.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """Hand in a job and print its id. It is done whether or not anybody waits for it."""
    with ApiClient(find_endpoint(url, api_key)) as client:
        if body is not None:
            request = _read_body(body)
        else:
            name = model or default_model(client)
            request = chat_body(name, max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
            text = prompt if prompt is not None else sys.stdin.read()
            request["messages"] = user_messages(system, text)
        given = {"priority": priority, "expires_after": expires_after, "cancel_after": cancel_after}
        asked = {name: value for name, value in given.items() if value is not None}
        job = client.call(
            "POST", "/v1/jobs", json={"endpoint": "/v1/chat/completions", "body": request, **asked}
        )
        if not wait:
            sys.stdout.write(f"{json.dumps(job) if as_json else job['id']}\n")
            return
        sys.stderr.write(f"{job['id']}\n")
        _finish(follow_job(client, job["id"], as_json=as_json))


def watch(
    job: JobArgument, as_json: JsonOption = False, url: UrlOption = None, api_key: KeyOption = None
) -> None:
    """Print a job's output as it comes, from its beginning; with --json, each of its events."""
    with ApiClient(find_endpoint(url, api_key)) as client:
        _finish(follow_job(client, _job_id(job), as_json=as_json))


def jobs(
    status: Annotated[str | None, typer.Option(help="Only these: queued, in_progress, completed, …")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="The newest so many.")] = 20,
    as_json: JsonOption = False,
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """List jobs, the newest first."""
    query = {"limit": str(limit), **({"status": status} if status else {})}
    with ApiClient(find_endpoint(url, api_key)) as client:
        listed = client.call("GET", "/v1/jobs", params=query)
    if as_json:
        sys.stdout.write(json.dumps(listed["data"]) + "\n")
    else:
        print_table(_HEADINGS, map(_row, listed["data"]))


def cancel(
    job: Annotated[list[str], typer.Argument(metavar="JOB…", help="Ids of jobs.")],
    url: UrlOption = None,
    api_key: KeyOption = None,
) -> None:
    """End jobs, waiting or running. One that is over stays as it is."""
    with ApiClient(find_endpoint(url, api_key)) as client:
        for job_id in map(_job_id, job):
            ended = client.call("POST", f"/v1/jobs/{job_id}/cancel")
            sys.stdout.write(f"{job_id} {ended['status']}\n")


def _finish(code: ExitCode) -> None:
    if code is not ExitCode.OK:
        raise typer.Exit(code)


def _job_id(text: str) -> str:
    """Of a job's id, or of its completion's."""
    if text.startswith("chatcmpl-"):
        return "job_" + text.removeprefix("chatcmpl-")
    if not text.removeprefix("job_").isalnum():
        raise CommandError(f"{text!r} is not the id of a job", ExitCode.USAGE)
    return text


def _read_body(path: Path) -> dict[str, Any]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text()
        body = json.loads(text)
    except (OSError, ValueError) as error:
        raise CommandError(f"{path}: {error}", ExitCode.USAGE) from error
    if not isinstance(body, dict):
        raise CommandError(f"{path} holds no JSON object", ExitCode.USAGE)
    return body


def _row(job: dict[str, Any]) -> tuple[object, ...]:
    """As `_HEADINGS` name it."""
    tokens = job["usage"]["completion_tokens"] if job["usage"] else None
    return (
        job["id"],
        job["status"],
        job["model"],
        job["worker"],
        job["queue_position"],
        job["attempts"],
        tokens,
        job["timing"]["running_s"],
    )

"""Prints a job's events as they arrive."""

from __future__ import annotations

import json
import sys
from typing import Any, Protocol

from cli.client.api_client import ApiClient
from cli.client.sse_client import SseEvent
from cli.client.stream_reader import StreamReader, job_request
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.terminal.notice import Notice
from cli.terminal.safe_text import write_text

#: Events that end a job, with the exit code that reports them.
ENDS = {
    "job.completed": ExitCode.OK,
    "job.incomplete": ExitCode.OK,
    "job.failed": ExitCode.FAILED,
    "job.cancelled": ExitCode.FAILED,
    "job.expired": ExitCode.FAILED,
}


def follow_job(client: ApiClient, job_id: str, *, as_json: bool, cursor: str = "") -> ExitCode:
    """Prints events until the job ends. Raises CommandError if there is no such job or reading it fails."""
    printer = printer_for(as_json=as_json)
    with Notice() as notice:
        for event in StreamReader(client, job_request(job_id, cursor)).events(notice.connection_lost):
            notice.clear()
            data = json.loads(event.data)
            if event.event == "error":
                raise CommandError(str(data["error"]["message"]), ExitCode.FAILED)
            printer.show(event, data)
            if event.event in ENDS:
                return ENDS[event.event]
    return ExitCode.OK


def await_end(client: ApiClient, job_id: str) -> ExitCode:
    """Waits for the job to end and prints only notices about a lost connection."""
    with Notice() as notice:
        for event in StreamReader(client, job_request(job_id)).events(notice.connection_lost):
            notice.clear()
            if event.event in ENDS:
                return ENDS[event.event]
    return ExitCode.OK


class Printer(Protocol):
    """Prints events."""

    def show(self, event: SseEvent, data: dict[str, Any]) -> None:
        """Prints one event. Called in order."""


def printer_for(*, as_json: bool) -> Printer:
    """The printer for --json, or the one for text."""
    return _JsonPrinter() if as_json else _TextPrinter()


class _JsonPrinter:
    """Prints one JSON object per line."""

    def show(self, event: SseEvent, data: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps({"event": event.event, "id": event.id, "data": data}) + "\n")
        sys.stdout.flush()


class _TextPrinter:
    """Prints the output to stdout and everything else to stderr."""

    def __init__(self) -> None:
        self._choice: int | None = None

    def show(self, event: SseEvent, data: dict[str, Any]) -> None:
        if event.event == "job.output":
            for choice in data["choices"]:
                self._switch_to(choice["index"])
                write_text(sys.stdout, choice["delta"].get("content") or "")
        else:
            # In a pipe, other events do not break the lines of the output.
            if event.event in ENDS or sys.stdout.isatty():
                self._switch_to(None)
            Notice.show(_describe(event.event, data))
        sys.stdout.flush()

    def _switch_to(self, choice: int | None) -> None:
        """Starts a new line whenever the choice changes, with the choice's number unless it is the first."""
        if choice == self._choice:
            return
        if self._choice is not None:
            sys.stdout.write("\n")
        if choice:
            sys.stdout.write(f"({choice}) ")
        sys.stdout.flush()
        self._choice = choice


def _describe(name: str, data: dict[str, Any]) -> str:
    """An event in words, such as "started by worker-1"."""
    words = [name.removeprefix("job.")]
    if "worker" in data:
        words.append(f"by {data['worker']}")
    if "queue_position" in data:
        words.append(f"at position {data['queue_position']}")
    if data.get("eta_seconds") is not None:
        words.append(f"for about {data['eta_seconds']:.0f} s")
    if "reason" in data:
        words.append(f"({data['reason'].replace('_', ' ')})")
    if "error" in data:
        words.append(f"- {data['error']['message']}")
    if "usage" in data:
        words.append(f"- {data['usage']['completion_tokens']} tokens")
    return " ".join(words)

"""Watching: prints a job's events as they come."""

from __future__ import annotations

import json
import sys
from typing import Any, Protocol

from cli.client.api_client import ApiClient
from cli.client.sse_client import SseEvent
from cli.client.stream_reader import Reading, job_opening
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.terminal.notice import Notice
from cli.terminal.safe_text import write_text

#: Events that end a job, and whether it ended as it should.
ENDS = {
    "job.completed": ExitCode.OK,
    "job.incomplete": ExitCode.OK,
    "job.failed": ExitCode.FAILED,
    "job.cancelled": ExitCode.FAILED,
    "job.expired": ExitCode.FAILED,
}


def follow_job(client: ApiClient, job_id: str, *, as_json: bool, cursor: str = "") -> ExitCode:
    """Until the job is over. Raises CommandError for one that is not there, or cannot be read on."""
    printer = printer_for(as_json=as_json)
    with Notice() as notice:
        for event in Reading(client, job_opening(job_id, cursor)).events(notice.cut):
            notice.clear()
            data = json.loads(event.data)
            if event.event == "error":
                raise CommandError(str(data["error"]["message"]), ExitCode.FAILED)
            printer.show(event, data)
            if event.event in ENDS:
                return ENDS[event.event]
    return ExitCode.OK


def await_end(client: ApiClient, job_id: str) -> ExitCode:
    """The same without a word, but on a connection that stays away."""
    with Notice() as notice:
        for event in Reading(client, job_opening(job_id)).events(notice.cut):
            notice.clear()
            if event.event in ENDS:
                return ENDS[event.event]
    return ExitCode.OK


class Printer(Protocol):
    """Where events go."""

    def show(self, event: SseEvent, data: dict[str, Any]) -> None:
        """One event, in its order."""


def printer_for(*, as_json: bool) -> Printer:
    """The one that the command line asks for."""
    return _JsonPrinter() if as_json else _TextPrinter()


class _JsonPrinter:
    """One object a line."""

    def show(self, event: SseEvent, data: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps({"event": event.event, "id": event.id, "data": data}) + "\n")
        sys.stdout.flush()


class _TextPrinter:
    """The output on stdout, all else on stderr."""

    def __init__(self) -> None:
        self._choice: int | None = None

    def show(self, event: SseEvent, data: dict[str, Any]) -> None:
        if event.event == "job.output":
            for choice in data["choices"]:
                self._turn_to(choice["index"])
                write_text(sys.stdout, choice["delta"].get("content") or "")
        else:
            # In a pipe the output stays as it is, whatever happens to the job meanwhile.
            if event.event in ENDS or sys.stdout.isatty():
                self._turn_to(None)
            Notice.tell(_describe(event.event, data))
        sys.stdout.flush()

    def _turn_to(self, choice: int | None) -> None:
        """Each run of one choice's text begins on a line of its own, those of later choices with a number."""
        if choice == self._choice:
            return
        if self._choice is not None:
            sys.stdout.write("\n")
        if choice:
            sys.stdout.write(f"({choice}) ")
        sys.stdout.flush()
        self._choice = choice


def _describe(name: str, data: dict[str, Any]) -> str:
    """`job.started` by worker-1, `job.failed` with its reason."""
    words = [name.removeprefix("job.")]
    if "worker" in data:
        words.append(f"by {data['worker']}")
    if "queue_position" in data:
        words.append(f"at place {data['queue_position']}")
    if data.get("eta_seconds") is not None:
        words.append(f"for about {data['eta_seconds']:.0f} s")
    if "reason" in data:
        words.append(f"({data['reason'].replace('_', ' ')})")
    if "error" in data:
        words.append(f"- {data['error']['message']}")
    if "usage" in data:
        words.append(f"- {data['usage']['completion_tokens']} tokens")
    return " ".join(words)

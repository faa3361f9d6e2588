"""What `baton watch` prints of a job's events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cli.sse_client import SseEvent
from cli.watching import printer_for


def show(*events: tuple[str, dict[str, Any]]) -> None:
    printer = printer_for(as_json=False)
    for name, data in events:
        printer.show(SseEvent(id="", event=name, data=json.dumps(data)), data)


def output(text: str, index: int = 0) -> tuple[str, dict[str, Any]]:
    return "job.output", {"choices": [{"index": index, "delta": {"content": text}}]}


def test_a_change_of_workers_leaves_no_trace_in_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    show(
        ("job.started", {"worker": "w1"}),
        output("4."),
        ("job.requeued", {"reason": "worker_died"}),
        ("job.resumed", {"worker": "w2"}),
        output(" 4"),
        ("job.completed", {"usage": {"completion_tokens": 2}}),
    )
    told = capsys.readouterr()
    assert told.out == "4. 4\n"
    assert told.err == (
        "[started by w1]\n[requeued (worker died)]\n[resumed by w2]\n[completed - 2 tokens]\n"
    )


def test_each_run_of_a_choice_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    show(output("a"), output("b", 1), output("c", 1), output("d"), ("job.incomplete", {}))
    assert capsys.readouterr().out == "a\n(1) bc\nd\n"

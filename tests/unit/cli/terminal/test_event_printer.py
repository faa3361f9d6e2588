from __future__ import annotations

import json
from typing import Any

import pytest

from cli.client.sse_client import SseEvent
from cli.terminal.event_printer import printer_for


def output(text: str, choice: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": choice, "delta": {"content": text}}]}


def show(*events: tuple[str, dict[str, Any]]) -> None:
    printer = printer_for(as_json=False)
    for name, data in events:
        printer.show(SseEvent(json.dumps(data), f"job.{name}"), data)


END = ("completed", {"usage": {"completion_tokens": 2}})


def test_what_happens_to_a_job_leaves_its_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show(
        ("queued", {}),
        ("queued", {"queue_position": 3, "eta_seconds": 11.6}),
        ("output", output("a b")),
        ("requeued", {"reason": "worker_died"}),
        ("resumed", {"worker": "w2"}),
        ("output", output("c")),
        END,
    )
    shown = capsys.readouterr()
    assert shown.out == "a bc\n"
    assert shown.err.splitlines() == [
        "[queued]",
        "[queued at position 3 for about 12 s]",
        "[requeued (worker died)]",
        "[resumed by w2]",
        "[completed - 2 tokens]",
    ]


def test_further_choices_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    show(("output", output("a")), ("output", output("b", 1)), ("output", output("c", 1)), END)
    assert capsys.readouterr().out == "a\n(1) bc\n"


def test_a_job_without_output_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    show(("cancelled", {"reason": "client"}))
    assert capsys.readouterr().out == ""

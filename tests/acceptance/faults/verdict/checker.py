"""Checker: holds every client's history, and every job's stream, against the promise. A pure function.

No token lost, none repeated, none changed, none out of order; exactly one terminal event, nothing after it;
usage equal to what was sent; no reader that hangs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from shared.domain.job import CancelReason
from tests.acceptance.faults.verdict.history import Ask, Final, Heard, History, Kind
from tests.acceptance.faults.verdict.reference import Reference

Fault = Literal[
    "lost", "doubled", "changed", "out of order", "no end", "two ends", "after the end", "wrong end",
    "wrong usage", "hung", "complaint", "vanished",
]  # fmt: skip
#: Why jobs of these clients may be cancelled.
_REASONS: Mapping[Kind, CancelReason] = {"cancelled": "client", "abandoned": "reader_gone"}
#: Ends of answers that were not cut short by anybody.
_WHOLE = ("completed", "incomplete")


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise."""

    fault: Fault
    job_id: str | None
    kind: str
    detail: str = ""


def check(
    histories: Sequence[History],
    finals: Mapping[str, Final],
    reference: Reference,
) -> list[Violation]:
    """All violations; `finals` by job."""
    found = []
    for history in histories:
        for fault, detail in _of_reader(history, reference):
            found.append(Violation(fault, history.job_id, history.ask.kind, detail))
        if history.job_id is None:
            continue
        final = finals.get(history.job_id)
        if final is None:
            if not history.is_excused:
                found.append(Violation("vanished", history.job_id, history.ask.kind))
            continue
        for fault, detail in _of_job(history, final, reference):
            found.append(Violation(fault, history.job_id, history.ask.kind, detail))
    return found


def _of_reader(history: History, reference: Reference) -> Iterator[tuple[Fault, str]]:
    """What is wrong with what one client was told."""
    positions = [0] * history.ask.n
    finishes: dict[int, str] = {}
    end: Heard | None = None
    for heard in history.heard:
        if end is not None:
            yield ("two ends" if heard.what == "end" else "after the end"), f"{heard.what} {heard.detail}"
        match heard.what:
            case "output":
                yield from _of_output(history.ask, heard, positions[heard.choice], reference)
                positions[heard.choice] = max(positions[heard.choice], heard.end)
            case "finish":
                if heard.choice in finishes:
                    yield "doubled", f"finish of choice {heard.choice}"
                finishes[heard.choice] = heard.detail
            case "usage":
                if heard.completion_tokens != sum(positions) and not _is_cut_back(history, heard, positions):
                    yield "wrong usage", f"{heard.completion_tokens}, sent {sum(positions)}"
            case "end":
                end = heard
            case "lost":
                if not history.is_excused:
                    yield "vanished", heard.detail
    if history.is_hung:
        yield "hung", f"after {sum(positions)} tokens"
    elif end is None and not history.has_left and not history.is_lost and history.job_id is not None:
        yield "no end", f"after {sum(positions)} tokens"
    if end is not None and end.detail in _WHOLE:
        yield from _of_whole(history.ask, positions, finishes, reference)
    for complaint in history.complaints:
        yield "complaint", complaint
    for other in () if history.is_excused else history.other_jobs:
        yield "complaint", f"one key, two jobs: {other} as well"


def _is_cut_back(history: History, usage: Heard, positions: Sequence[int]) -> bool:
    """Whether it was cancelled while a Redis that was set back had less of it than its reader."""
    return history.is_excused and history.ask.kind in _REASONS and usage.completion_tokens < sum(positions)


def _of_output(ask: Ask, heard: Heard, position: int, reference: Reference) -> Iterator[tuple[Fault, str]]:
    place = f"choice {heard.choice}, {heard.start}..{heard.end}"
    if heard.start > position:
        yield "lost", f"{place} after {position}"
    elif heard.end < heard.start:
        yield "out of order", place
    elif heard.start < position:
        yield ("doubled" if heard.end <= position else "out of order"), f"{place} after {position}"
    expected = reference.text(ask, heard.choice, heard.start, heard.end)
    if heard.text != expected:
        yield _text_fault(heard.text, expected), f"{place}: {heard.text[:60]!r}, not {expected[:60]!r}"


def _text_fault(text: str, expected: str) -> Fault:
    """What became of the text: some of it missing, some of it there too often, or another."""
    if len(text) < len(expected) and (expected.startswith(text) or expected.endswith(text)):
        return "lost"
    if len(text) > len(expected) and (text.startswith(expected) or text.endswith(expected)):
        return "doubled"
    return "out of order" if sorted(text.split()) == sorted(expected.split()) else "changed"


def _of_whole(
    ask: Ask, positions: Sequence[int], finishes: Mapping[int, str], reference: Reference
) -> Iterator[tuple[Fault, str]]:
    for choice, position in enumerate(positions):
        length = reference.length(ask, choice)
        if position != length:
            yield ("lost" if position < length else "doubled"), f"choice {choice}: {position} of {length}"
        if finishes.get(choice) != reference.finish(ask, choice):
            yield "wrong end", f"choice {choice} finished by {finishes.get(choice)}"


def _of_job(history: History, final: Final, reference: Reference) -> Iterator[tuple[Fault, str]]:
    """What is wrong with a job's stream, and between it and what a client was told."""
    ask = history.ask
    if len(final.ends) != 1:
        yield (
            ("two ends" if final.ends else "no end"),
            f"in the stream: {', '.join(final.ends) or final.status}",
        )
    if not final.is_ended_last and final.ends:
        yield "after the end", "in the stream"
    if not final.is_joined:
        yield "lost", "positions in the stream do not join"
    for choice, texts in enumerate(final.texts):
        expected = reference.text(ask, choice, 0, len(texts))
        if "".join(texts) != expected:
            yield _text_fault("".join(texts), expected), f"choice {choice} in the stream"
    if final.completion_tokens != sum(map(len, final.texts)):
        yield (
            "wrong usage",
            f"{final.completion_tokens} in the job, {sum(map(len, final.texts))} in the stream",
        )
    if final.status in _WHOLE:
        finishes = {choice: reason for choice, reason in enumerate(final.finishes) if reason is not None}
        yield from _of_whole(ask, [len(texts) for texts in final.texts], finishes, reference)
    yield from _of_ending(history, final)


def _of_ending(history: History, final: Final) -> Iterator[tuple[Fault, str]]:
    """Whether a job ended as its client was told, and as this kind of client makes it end."""
    told = next((heard.detail for heard in history.heard if heard.what == "end"), None)
    if history.is_excused:
        return
    if told is not None and told != final.status:
        yield "wrong end", f"{told} was told, {final.status} is stored"
    reason = _REASONS.get(history.ask.kind)
    if final.status not in _WHOLE and (
        reason is None or (final.status, final.reason) != ("cancelled", reason)
    ):
        yield "wrong end", f"{final.status} ({final.reason}) of a {history.ask.kind} job"

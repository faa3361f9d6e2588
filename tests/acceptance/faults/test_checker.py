"""The checker finds every way in which a history can break the promise, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.acceptance.faults.verdict.checker import check
from tests.acceptance.faults.verdict.history import Ask, Final, Heard, History
from tests.acceptance.faults.verdict.reference import Recorded, Scripted
from tests.scripted_backend import scripted_token

JOB = "job_a"
ASK = Ask("streamed", seed=7, length=9, max_tokens=100, n=2)


def text(choice: int, start: int, end: int) -> str:
    return "".join(f"{scripted_token(7, choice, position)} " for position in range(start, end))


def output(choice: int, start: int, end: int) -> Heard:
    return Heard("output", choice, start, end, text(choice, start, end))


def good() -> list[Heard]:
    """Two choices of nine tokens each, in pieces, and their end."""
    pieces = [output(0, 0, 1), output(1, 0, 4), output(0, 1, 5), output(1, 4, 9), output(0, 5, 9)]
    return [
        *pieces,
        Heard("finish", 1, detail="stop"),
        Heard("finish", 0, detail="stop"),
        Heard("usage", completion_tokens=18),
        Heard("end", detail="completed"),
    ]


FINAL = Final(
    job_id=JOB,
    status="completed",
    ends=("completed",),
    is_ended_last=True,
    texts=tuple(tuple(f"{scripted_token(7, choice, place)} " for place in range(9)) for choice in (0, 1)),
    finishes=("stop", "stop"),
    is_joined=True,
    completion_tokens=18,
    attempts=3,
)


def faults(heard: list[Heard], final: Final | None = FINAL, ask: Ask = ASK, **story: object) -> set[str]:
    history = History(ask, 0.0, JOB, heard)
    for name, value in story.items():
        setattr(history, name, value)
    return {found.fault for found in check([history], {} if final is None else {JOB: final}, Scripted())}


def test_a_good_history() -> None:
    assert faults(good()) == set()


def without(index: int) -> Callable[[list[Heard]], list[Heard]]:
    return lambda heard: heard[:index] + heard[index + 1 :]


def instead(index: int, *others: Heard) -> Callable[[list[Heard]], list[Heard]]:
    return lambda heard: [*heard[:index], *others, *heard[index + 1 :]]


FORGED: dict[str, tuple[Callable[[list[Heard]], list[Heard]], set[str]]] = {
    "a piece is missing": (without(2), {"lost"}),
    "a token is missing within a piece": (
        instead(2, replace(output(0, 1, 5), text=text(0, 1, 4))),
        {"lost"},
    ),
    "the last piece is missing": (without(4), {"lost", "wrong usage"}),
    "a piece comes twice": (lambda heard: [*heard[:3], heard[2], *heard[3:]], {"doubled"}),
    "a token comes twice within a piece": (
        instead(2, replace(output(0, 1, 5), text=text(0, 0, 5))),
        {"doubled"},
    ),
    "another token": (instead(2, replace(output(0, 1, 5), text="1 " + text(0, 2, 5))), {"changed"}),
    "another choice's text": (instead(2, replace(output(0, 1, 5), text=text(1, 1, 5))), {"changed"}),
    "two tokens change places": (
        instead(2, replace(output(0, 1, 5), text=text(0, 2, 3) + text(0, 1, 2) + text(0, 3, 5))),
        {"out of order"},
    ),
    "a place goes back": (instead(4, output(0, 3, 9)), {"out of order"}),
    "two ends": (lambda heard: [*heard, heard[-1]], {"two ends"}),
    "no end": (without(8), {"no end"}),
    "a token after the end": (lambda heard: [*heard, output(0, 9, 10)], {"after the end", "doubled"}),
    "too much usage": (instead(7, Heard("usage", completion_tokens=19)), {"wrong usage"}),
    "a finish twice": (lambda heard: [*heard[:6], *heard[5:]], {"doubled"}),
    "no finish": (without(6), {"wrong end"}),
    "another finish": (instead(6, Heard("finish", 0, detail="length")), {"wrong end"}),
    "another end than the stored one": (instead(8, Heard("end", detail="cancelled")), {"wrong end"}),
    "taken for lost": (instead(8, Heard("lost", detail="404")), {"vanished"}),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_history(name: str) -> None:
    forge, expected = FORGED[name]
    assert faults(forge(good())) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"ends": ("completed", "completed")}, {"two ends"}),
        ({"ends": ()}, {"no end"}),
        ({"is_ended_last": False}, {"after the end"}),
        ({"is_joined": False}, {"lost"}),
        ({"completion_tokens": 17}, {"wrong usage"}),
        ({"texts": (FINAL.texts[0], FINAL.texts[1][:-1])}, {"lost", "wrong usage"}),
        ({"texts": (FINAL.texts[0], ("1 ", *FINAL.texts[1][1:]))}, {"changed"}),
        ({"finishes": ("stop", None)}, {"wrong end"}),
        ({"status": "failed"}, {"wrong end"}),
    ],
)
def test_a_forged_stream(change: dict[str, object], expected: set[str]) -> None:
    assert faults(good(), replace(FINAL, **change)) == expected  # type: ignore[arg-type]


def test_a_job_that_is_gone_and_one_that_hangs() -> None:
    assert faults(good(), None) == {"vanished"}
    assert faults(good()[:3], is_hung=True) == {"hung"}
    assert faults(good(), complaints=["500"]) == {"complaint"}


def test_what_redis_lost_may_be_gone_but_not_change() -> None:
    assert faults([*good()[:3], Heard("lost", detail="404")], None, is_excused=True) == set()
    assert faults(good(), other_jobs=["job_b"], is_excused=True) == set()
    assert faults(good(), other_jobs=["job_b"]) == {"complaint"}
    assert faults(good(), complaints=["500"], is_excused=True) == {"complaint"}
    changed = FORGED["another token"][0](good())
    assert faults(changed, is_excused=True) == {"changed"}


def test_who_leaves_and_who_cancels() -> None:
    cut = replace(
        FINAL,
        status="cancelled",
        ends=("cancelled",),
        texts=(FINAL.texts[0][:4], FINAL.texts[1][:4]),
        finishes=(None, None),
        completion_tokens=8,
    )
    left = replace(ASK, kind="abandoned")
    assert faults(good()[:3], replace(cut, reason="reader_gone"), left, has_left=True) == set()
    assert faults(good()[:3], replace(cut, reason="client"), left, has_left=True) == {"wrong end"}
    cancelled = replace(ASK, kind="cancelled")
    told = [*good()[:2], Heard("usage", completion_tokens=5), Heard("end", detail="cancelled")]
    assert faults(told, replace(cut, reason="client"), cancelled) == set()
    assert faults(told, replace(cut, reason="client")) == {"wrong end"}


def test_a_recorded_reference_ends_at_a_stop_string() -> None:
    reference = Recorded({1: (("ab", "cd", "ef", "gh"),)}, {1: (("",) * 5,)})
    ask = Ask("streamed", 1, 4, 4, stop="de")
    assert (reference.length(ask, 0), reference.finish(ask, 0)) == (3, "stop")
    assert [reference.text(ask, 0, at, at + 1) for at in range(4)] == ["ab", "c", "", ""]
    later = replace(ask, max_tokens=2)
    assert (reference.length(later, 0), reference.finish(later, 0)) == (2, "length")
    assert reference.text(later, 0, 0, 2) == "abcd"


def test_a_recorded_reference_that_ends_within_a_character_says_so() -> None:
    reference = Recorded({1: (("a", "", "é", "b"),)}, {1: (("", "", "\ufffd", "", ""),)})
    ask = Ask("streamed", 1, 4, 2)
    assert reference.text(ask, 0, 0, 1) == "a"
    assert reference.text(ask, 0, 0, 2) == "a\ufffd" and reference.text(ask, 0, 1, 2) == "\ufffd"
    assert reference.text(ask, 0, 2, 2) == ""
    assert reference.text(replace(ask, max_tokens=3), 0, 0, 3) == "aé"


def test_what_a_redis_that_was_set_back_ends_with_may_be_less_than_was_sent() -> None:
    cancelled = replace(ASK, kind="cancelled")
    told = [*good()[:2], Heard("usage", completion_tokens=1), Heard("end", detail="cancelled")]
    assert "wrong usage" in faults(told, None, cancelled)
    assert "wrong usage" not in faults(told, None, cancelled, is_excused=True)
    more = [*good()[:2], Heard("usage", completion_tokens=99), Heard("end", detail="cancelled")]
    assert "wrong usage" in faults(more, None, cancelled, is_excused=True)

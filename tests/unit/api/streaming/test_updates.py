"""A reader learns everything once, in order, whatever it is offered; what is missing is noticed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.streaming.cursor import ChoiceCursor, Cursor
from api.streaming.updates import Update, advance
from shared.domain.events import (
    Cancelled,
    Completed,
    Entry,
    Failed,
    Output,
    Queued,
    Requeued,
    Resumed,
    Started,
)
from shared.domain.output import ChoiceOutput, Head
from shared.domain.usage import Usage
from shared.errors import ErrorInfo
from tests.unit.api.streams import JOB_ID, Answers, answers, output, read_all, tell

USED = Usage(prompt=7, completion=9)
START = Cursor.start(JOB_ID, 1)


def at(tokens: int, *, marker: int = 2, stage: str = "begun") -> Cursor:
    return Cursor("AbCdEfGh", marker, (ChoiceCursor(tokens, stage),), "open")  # type: ignore[arg-type]


def test_tokens_move_the_cursor() -> None:
    entry = Entry("2-1", (2,), Output((output(0, 0, "a", "b"),)), USED)
    assert advance(at(0, stage="nothing"), entry) == [
        Update(output(0, 0, "a", "b"), at(2), USED, begins=True)
    ]


def test_tokens_that_are_known_are_cut_off() -> None:
    entry = Entry("2-1", (3,), Output((output(0, 0, "a", "b", "c"),)), USED)
    assert advance(at(2), entry) == [Update(output(0, 2, "c", head=Head(0, "text", chars=2)), at(3), USED)]
    assert advance(at(3), entry) == []
    assert advance(at(9), entry) == []


def test_a_finish_without_tokens_is_news_once() -> None:
    entry = Entry("2-2", (2,), Output((output(0, 2, finish="stop"),)), USED)
    finished = at(2, stage="finished")
    assert advance(at(2), entry) == [Update(output(0, 2, finish="stop"), finished, USED)]
    assert advance(finished, entry) == []


def test_missing_tokens_are_a_gap() -> None:
    assert advance(at(2), Entry("2-9", (4,), Output((output(0, 3, "d"),)))) is None
    assert advance(at(2), Entry("3-0", (3,), Requeued("drain"))) is None
    assert advance(at(2), Entry("2-9", (3,), Completed())) is None


def test_a_missing_change_of_hands_is_a_gap() -> None:
    assert advance(at(2), Entry("4-0", (2,), Resumed("w", 2))) is None
    assert advance(at(2), Entry("4-1", (3,), Output((output(0, 2, "c"),)))) is None
    assert advance(at(2), Entry("4-0", (2,), Cancelled("client"))) is None


def test_a_missing_finish_is_a_gap() -> None:
    assert advance(at(2), Entry("2-9", (2,), Completed())) is None


def test_a_failure_needs_no_finish() -> None:
    failed = Failed(ErrorInfo("no"))
    news = advance(at(2), Entry("2-9", (2,), failed, USED))
    assert news == [Update(failed, at(2)._replace(ending="over"), USED)]


def test_life_cycle_events_are_news_once() -> None:
    cursor = START
    for entry in (Entry("1-0", (0,), Queued()), Entry("2-0", (0,), Started("w"))):
        news = advance(cursor, entry)
        assert news is not None and [one.event for one in news] == [entry.event]
        cursor = news[0].cursor
        assert advance(cursor, entry) == []


def test_the_end_is_news_once() -> None:
    end = Entry("3-0", (2,), Cancelled("client"))
    news = advance(at(2), end)
    assert news is not None and news[0].is_end
    assert advance(news[0].cursor, end) == []


def test_redis_that_lost_its_tail_is_repaired_by_position() -> None:
    # The reader was at 2-17; Redis fell back and the worker sent again, more coarsely, under another fence.
    rolled_back = [
        Entry("3-0", (1,), Requeued("worker_died")),
        Entry("4-0", (1,), Resumed("w", 2)),
        Entry("4-1", (5,), Output((output(0, 1, "b", "c", "d", "e"),))),
    ]
    assert [one.event for one in read_all(rolled_back, at(3)) if one.cursor.marker == 4][-1] == output(
        0, 3, "d", "e", head=Head(0, "text", 0, 1, 2)
    )


@given(answers, st.integers(), st.integers(), st.integers(0, 40))
def test_a_cut_anywhere_goes_on_in_any_other_telling(
    told: Answers, first: int, second: int, cut: int
) -> None:
    news = read_all(tell(told, first), Cursor.start(JOB_ID, told.n))[:cut]
    cursor = news[-1].cursor if news else Cursor.start(JOB_ID, told.n)
    news += read_all(tell(told, second), cursor)
    for index, tokens in enumerate(told.tokens):
        parts = [
            one.event for one in news if isinstance(one.event, ChoiceOutput) and one.event.index == index
        ]
        assert [text for part in parts for text in part.texts] == list(tokens)
        assert [part.finish.reason for part in parts if part.finish] == [told.finish[index]]
    assert [one.is_end for one in news].count(True) == 1

"""A cursor is a value that survives its encoding, and nothing else passes for one."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.streaming.cursor import ChoiceCursor, Cursor, InvalidCursor
from tests.unit.api.streams import JOB_ID

choices = st.one_of(
    st.just(ChoiceCursor(0, "nothing")),
    st.builds(ChoiceCursor, st.integers(0, 10**9), st.sampled_from(["begun", "finished"])),
)
cursors = st.builds(
    Cursor,
    st.just("AbCdEfGh"),
    st.integers(0, 10**9),
    st.lists(choices, min_size=1, max_size=8).map(tuple),
    st.sampled_from(["open", "usage", "over"]),
    st.integers(0, 99),
)


def test_the_start_is_before_everything() -> None:
    start = Cursor.start(JOB_ID, 2)
    assert start == Cursor("AbCdEfGh", 0, (ChoiceCursor(0, "nothing"),) * 2, "open")
    assert start.encode() == "1.AbCdEfGh.0.o.0n.0n"


@given(cursors)
def test_it_survives_its_encoding(cursor: Cursor) -> None:
    text = cursor.encode()
    assert Cursor.decode(text, JOB_ID, len(cursor.choices)) == cursor
    assert text.replace(".", "").isalnum() and text.isascii()


@given(cursors, st.integers(0, 80), st.characters())
def test_what_passes_is_what_was_encoded(cursor: Cursor, place: int, other: str) -> None:
    text = cursor.encode()
    changed = text[:place] + other + text[place + 1 :]
    with suppress(InvalidCursor):
        assert Cursor.decode(changed, JOB_ID).encode() == changed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        "-1",
        "0x1",
        "1",
        "2-0",
        "1.AbCdEfGh.0.o",
        "1.AbCdEfGh.0.o.",
        "2.AbCdEfGh.0.o.0n",
        "1.AbCdEfGh.00.o.0n",
        "1.AbCdEfGh.0.o.01b",
        "1.AbCdEfGh.0.o.5n",
        "1.AbCdEfGh.0.o.-5b",
        "1.AbCdEfGh.0.o.5b\n",
        "1.AbCdEfGh.0.o.٣b",
        "1.AbCdEfGh.0.z.0n",
        "1.XXXXXXXX.0.o.0n",
        "1.AbCdEfGh.0.o.99999999999b",
        "1.AbCdEfGh.0.o.5b.s0",
        "1.AbCdEfGh.0.o.5b.s01",
        "1.AbCdEfGh.0.o.5b.s100",
        "1.AbCdEfGh.0.o.5b.s",
        "1.AbCdEfGh.0.o" + ".0n" * 100,
        "x" * 10_000,
    ],
)
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Cursor.decode(text, JOB_ID)


def test_output_begins_for_all_choices_at_once() -> None:
    cursor = Cursor.decode("1.AbCdEfGh.2.o.3f.0n.0b", JOB_ID)
    assert not cursor.has_begun and cursor.begun().has_begun
    assert cursor.begun().encode() == "1.AbCdEfGh.2.o.3f.0b.0b"


def test_what_was_sent_of_a_unit_is_forgotten_behind_it() -> None:
    cursor = Cursor.decode("1.AbCdEfGh.2.o.3b.s5", JOB_ID)
    assert (cursor.num_sent, cursor._replace(marker=4).encode()) == (5, "1.AbCdEfGh.4.o.3b.s5")
    assert cursor.with_choice(0, ChoiceCursor(4, "begun")).num_sent == 0


def test_another_number_of_choices_is_refused() -> None:
    with pytest.raises(InvalidCursor):
        Cursor.decode(Cursor.start(JOB_ID, 2).encode(), JOB_ID, 1)

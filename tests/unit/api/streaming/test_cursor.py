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
        "1.AbCdEfGh.0.o" + ".0n" * 100,
        "x" * 10_000,
    ],
)
def test_garbage_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        Cursor.decode(text, JOB_ID)


def test_another_number_of_choices_is_refused() -> None:
    with pytest.raises(InvalidCursor):
        Cursor.decode(Cursor.start(JOB_ID, 2).encode(), JOB_ID, 1)

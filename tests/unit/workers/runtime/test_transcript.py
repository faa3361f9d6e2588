from __future__ import annotations

from typing import Any

import msgspec

from shared.domain.events import Entry, Output, Queued, Requeued, Started
from shared.domain.output import Args, Candidate, ChoiceOutput, Close, Finish, Head, Open, TokenLogprobs
from shared.domain.usage import Usage
from tests.unit.shared.domain.test_prompt_logprobs import PROMPT_LOGPROBS
from workers.runtime.transcript import Progress, Transcript


def words(
    *texts: str,
    index: int = 0,
    start: int = 0,
    reason: str | None = None,
    head: Head | None = None,
    **rest: Any,
) -> ChoiceOutput:
    finish = None if reason is None else Finish(reason)
    ids = tuple(range(start, start + len(texts)))
    return ChoiceOutput(index, start, ids, texts, finish, head=head or Head(), **rest)


def text_head(chars: int) -> Head:
    """Return the state within a text, after this many characters."""
    return Head(kind="text", chars=chars)


def progress(*positions: int, finished: tuple[bool, ...] | None = None) -> Progress:
    """Each unit is one character of text."""
    heads = tuple([text_head(position) if position else Head() for position in positions])
    return Progress(positions, finished or (False,) * len(positions), heads)


def test_it_joins_what_follows_and_gives_any_part_of_it() -> None:
    transcript = Transcript(2)
    transcript.take([words("a", "b"), words("x", index=1)], Usage(3, 3))
    transcript.take([words("c", start=2, reason="stop")], Usage(0, 1))
    assert transcript.positions == (3, 1)
    assert transcript.used == Usage(3, 4)
    assert transcript.progress == progress(3, 1, finished=(True, False))
    assert transcript.finishes == (Finish("stop"), None)
    assert transcript.since(progress(1, 1)) == Output(
        (words("b", "c", start=1, reason="stop", head=text_head(1)),)
    )
    assert transcript.so_far() == (words("a", "b", "c", reason="stop"), words("x", index=1))


def test_an_end_without_units_is_given_until_it_is_known() -> None:
    transcript = Transcript(1)
    transcript.take([words("a")])
    transcript.take([words(start=1, reason="length")])
    assert transcript.since(progress(1)) == Output((words(start=1, reason="length", head=text_head(1)),))
    assert transcript.since(progress(1, finished=(True,))) is None
    assert transcript.is_finished


CALL = (Open("f"), Args("{"))


def test_marks_and_heads_are_right_wherever_a_part_begins() -> None:
    whole = words("ab", "", "", "1", "}", "", "c", marks={2: CALL, 5: (Close(),)})
    transcript = Transcript(1)
    for position in range(whole.end):
        piece = whole.since(position)
        transcript.take(
            [msgspec.structs.replace(piece, token_ids=(position,), texts=piece.texts[:1], head=Head())]
            if not piece.marks
            else [
                msgspec.structs.replace(
                    piece,
                    token_ids=(position,),
                    texts=piece.texts[:1],
                    head=Head(),
                    marks={0: piece.marks[0]} if 0 in piece.marks else None,
                )
            ]
        )
    assert transcript.so_far() == (whole,)
    for position in range(whole.end):
        begin = Progress.none(1).after((_until(whole, position),))
        assert transcript.since(begin) == Output((whole.since(position),))
    assert transcript.progress == Progress((7,), (False,), (whole.head_after,))
    assert whole.head_after == Head(item=2, kind="text", calls=1, item_start=6, chars=3)


def _until(whole: ChoiceOutput, position: int) -> ChoiceOutput:
    marks = {at: ops for at, ops in (whole.marks or {}).items() if at < position} or None
    assert whole.token_ids is not None
    return msgspec.structs.replace(
        whole, token_ids=whole.token_ids[:position], texts=whole.texts[:position], marks=marks
    )


def test_a_backend_without_token_ids_has_none() -> None:
    transcript = Transcript(1)
    transcript.take([ChoiceOutput(0, 0, None, ("Hel", "lo"))])
    transcript.take([ChoiceOutput(0, 2, None, (), Finish("stop"))])
    assert transcript.since(Progress((1,), (False,), (text_head(3),))) == Output(
        (ChoiceOutput(0, 1, None, ("lo",), Finish("stop"), head=text_head(3)),)
    )


def test_logprobs_go_with_their_tokens() -> None:
    logprobs = tuple(TokenLogprobs(Candidate(i, b"x", -float(i)), ()) for i in range(3))
    transcript = Transcript(1)
    transcript.take([ChoiceOutput(0, 0, (0, 1), ("x", "x"), None, logprobs[:2])])
    transcript.take([ChoiceOutput(0, 2, (2,), ("x",), Finish("length"), logprobs[2:])])
    assert transcript.since(progress(1)) == Output(
        (ChoiceOutput(0, 1, (1, 2), ("x", "x"), Finish("length"), logprobs[1:], text_head(1)),)
    )


def test_prompt_logprobs_are_repeated_if_redis_lost_the_first_token() -> None:
    first = ChoiceOutput(0, 0, (0,), ("a",), prompt_logprobs=PROMPT_LOGPROBS)
    transcript = Transcript.of([Entry("2-1", (1,), Output((first,)))], 1)
    transcript.take([words("b", start=1)])
    assert transcript.since(progress(1)) == Output((words("b", start=1, head=text_head(1)),))
    whole = ChoiceOutput(0, 0, (0, 1), ("a", "b"), prompt_logprobs=PROMPT_LOGPROBS)
    assert transcript.since(Progress.none(1)) == Output((whole,))
    assert transcript.so_far() == (whole,)


def test_it_is_read_from_a_stream() -> None:
    entries = [
        Entry("1-0", (0,), Queued()),
        Entry("2-0", (0,), Started("w")),
        Entry("2-1", (2,), Output((words("a", "b"),)), Usage(3, 2, 1)),
        Entry("2-2", (3,), Output((words("c", start=2),)), Usage(3, 3, 1)),
        Entry("3-0", (3,), Requeued("drain"), Usage(3, 3, 1)),
    ]
    transcript = Transcript.of(entries, 1)
    assert transcript.so_far() == (words("a", "b", "c"),)
    assert transcript.used == Usage(3, 3, 1)
    assert Transcript.of([], 1).so_far() == ()


def test_progress_moves_past_the_outputs_that_follow() -> None:
    before = progress(1, 4, finished=(False, True))
    after = before.after([words("b", start=1, reason="stop", head=text_head(1))])
    assert after == progress(2, 4, finished=(True, True))
    assert before.after([]) == before

from __future__ import annotations

from shared.domain.events import Candidate, ChoiceOutput, Entry, Output, Queued, Started, TokenLogprobs
from tests.unit.shared.domain.test_prompt_logprobs import TOLD
from workers.runtime.transcript import Progress, Transcript


def words(*texts: str, index: int = 0, start: int = 0, finish: str | None = None) -> ChoiceOutput:
    return ChoiceOutput(index, start, tuple(range(start, start + len(texts))), texts, finish)  # type: ignore[arg-type]


def test_it_joins_what_follows_and_gives_any_part_of_it() -> None:
    transcript = Transcript(2)
    transcript.take([words("a", "b"), words("x", index=1)])
    transcript.take([words("c", start=2, finish="stop")])
    assert transcript.progress == Progress((3, 1), (True, False))
    assert transcript.finishes == ("stop", None)
    assert transcript.since(Progress((1, 1), (False, False))) == Output(
        (words("b", "c", start=1, finish="stop"),)
    )
    assert transcript.so_far() == (words("a", "b", "c", finish="stop"), words("x", index=1))


def test_an_end_without_tokens_is_given_until_it_is_known() -> None:
    transcript = Transcript(1)
    transcript.take([words("a")])
    transcript.take([words(start=1, finish="length")])
    assert transcript.since(Progress((1,), (False,))) == Output((words(start=1, finish="length"),))
    assert transcript.since(Progress((1,), (True,))) is None
    assert transcript.is_finished


def test_logprobs_go_with_their_tokens() -> None:
    told = tuple(TokenLogprobs(Candidate(i, b"x", -float(i)), ()) for i in range(3))
    transcript = Transcript(1)
    transcript.take([ChoiceOutput(0, 0, (0, 1), ("x", "x"), None, told[:2])])
    transcript.take([ChoiceOutput(0, 2, (2,), ("x",), "length", told[2:])])
    assert transcript.since(Progress((1,), (False,))) == Output(
        (ChoiceOutput(0, 1, (1, 2), ("x", "x"), "length", told[1:]),)
    )


def test_what_is_told_of_the_prompt_is_told_again_where_redis_lost_the_first_token() -> None:
    first = ChoiceOutput(0, 0, (0,), ("a",), prompt_logprobs=TOLD)
    transcript = Transcript.of([Entry("2-1", (1,), Output((first,)))], 1)
    transcript.take([words("b", start=1)])
    assert transcript.since(Progress((1,), (False,))) == Output((words("b", start=1),))
    whole = ChoiceOutput(0, 0, (0, 1), ("a", "b"), prompt_logprobs=TOLD)
    assert transcript.since(Progress((0,), (False,))) == Output((whole,))
    assert transcript.so_far() == (whole,)


def test_it_is_read_from_a_stream() -> None:
    entries = [
        Entry("1-0", (0,), Queued()),
        Entry("2-0", (0,), Started("w")),
        Entry("2-1", (2,), Output((words("a", "b"),))),
        Entry("2-2", (3,), Output((words("c", start=2),))),
    ]
    assert Transcript.of(entries, 1).so_far() == (words("a", "b", "c"),)
    assert Transcript.of([], 1).so_far() == ()


def test_progress_goes_behind_what_follows_it() -> None:
    progress = Progress((1, 4), (False, True))
    assert progress.after([words("b", start=1, finish="stop")]) == Progress((2, 4), (True, True))
    assert progress.after([]) == progress

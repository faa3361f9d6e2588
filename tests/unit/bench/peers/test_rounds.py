"""The order of measurements, their chats, and what happens to a contestant that fails."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from bench.peers.peer import PeerUnavailable
from bench.peers.process_group import ProcessGroup
from bench.peers.rounds import Plan, Rounds
from bench.peers.weights.prompts import Chat, Prompts
from cli.bench.load import Bounds
from cli.bench.sample import Sample

_WAIT = "import sys; sys.stdin.read()"
PLAN = Plan(streams=(1, 4), runs=3, output_tokens=6, waves=2, limit_s=9.0, budget_s=900.0)


class Scripted:
    """An idle process. It answers at once, and fails in a given round."""

    version = "1.0"

    def __init__(self, name: str, log: list[str], directory: Path, fails_at: int | None = None) -> None:
        self.name = name
        self.asked: list[tuple[list[Chat], int, int, Bounds]] = []
        self._log = log
        self._directory = directory
        self._fails_at = fails_at
        self._starts = 0
        self._group: ProcessGroup | None = None

    @property
    def group(self) -> ProcessGroup:
        assert self._group is not None
        return self._group

    def start(self, chat: Chat) -> float:
        assert chat.token_ids
        self._log.append(f"start {self.name}")
        self._starts += 1
        if self._starts - 1 == self._fails_at:
            raise PeerUnavailable("it fell over")
        # The test holds the other end of the pipe, so the process waits for it.
        self._group = ProcessGroup(
            [sys.executable, "-c", _WAIT], {}, self._directory / "log", stdin=-1, stdout=-1
        )
        return 1.234

    def answer(self, chats: Sequence[Chat], num_tokens: int, streams: int, bounds: Bounds) -> list[Sample]:
        self.asked.append((list(chats), num_tokens, streams, bounds))
        return [Sample(0, 0, 1, array("d", [0.1, 0.2]), num_tokens, len(chat.token_ids)) for chat in chats]

    def stop(self) -> None:
        self._log.append(f"stop {self.name}")
        if self._group is not None:
            self._group.stop()
            self._group = None


@pytest.fixture
def prompts(small_model: Path) -> Prompts:
    return Prompts(small_model, 60)


def test_each_is_in_turn_the_first_and_stands_alone(prompts: Prompts, tmp_path: Path) -> None:
    log: list[str] = []
    contestants = [Scripted(name, log, tmp_path) for name in "ab"]
    results = Rounds(contestants, prompts, PLAN).run()
    names = [line.split()[1] for line in log]
    assert names == list("aabb" + "bbaa" + "aabb")
    assert log == [f"{what} {name}" for name in "abbaab" for what in ("start", "stop")]
    assert [(cell.contestant, cell.streams) for cell in results.cells[:4]] == [
        ("a", 1),
        ("a", 4),
        ("b", 1),
        ("b", 4),
    ]
    assert {(cell.requests, cell.tokens) for cell in results.cells} == {(3, 18), (8, 48)}
    assert [record.start_s for record in results.visits_of("a")] == [1.23] * 3
    assert all(record.peak_mib > 0 for record in results.visits)


def test_all_get_the_same_chats_of_which_none_comes_twice(prompts: Prompts, tmp_path: Path) -> None:
    contestants = [Scripted(name, [], tmp_path) for name in "ab"]
    Rounds(contestants, prompts, PLAN).run()
    assert contestants[0].asked == contestants[1].asked
    # For each of two levels in three rounds: a short answer per stream, then the measurement.
    assert [(len(chats), tokens, streams) for chats, tokens, streams, _ in contestants[0].asked] == [
        (1, 8, 1), (3, 6, 1), (4, 8, 4), (8, 6, 4)
    ] * 3  # fmt: skip
    told = [chat.messages for chats, *_ in contestants[0].asked for chat in chats]
    assert len({str(messages) for messages in told}) == len(told)
    assert contestants[0].asked[1][3] == Bounds(3, 9.0)


def test_one_that_fails_is_named_and_left_out_of_later_rounds(prompts: Prompts, tmp_path: Path) -> None:
    log: list[str] = []
    results = Rounds(
        [Scripted("a", log, tmp_path), Scripted("b", log, tmp_path, fails_at=1)], prompts, PLAN
    ).run()
    assert results.missing == {"b": "it fell over"}
    assert log.count("start b") == log.count("stop b") == 2 and log.count("start a") == 3
    assert [cell.round for cell in results.of("b", 4)] == [0]
    assert [cell.round for cell in results.of("a", 4)] == [0, 1, 2]


def test_the_slowest_has_no_more_rounds_when_they_would_not_be_in_time(
    prompts: Prompts, tmp_path: Path
) -> None:
    def clock() -> Iterator[float]:
        """The start and the remaining time, then the times before and after each record: 10, 50 and 30 s."""
        yield from (0, 0, 0, 10, 10, 60, 60, 90)
        yield from (90, 90, 120, 120, 130)
        yield from (130, 130, 140, 140, 170)

    times = clock()
    contestants = [Scripted(name, [], tmp_path) for name in "abc"]
    plan = replace(PLAN, budget_s=170)
    results = Rounds(contestants, prompts, plan, lambda: next(times)).run()
    assert results.missing == {"b": "too slow for round 2 in the remaining time: 50 s per round"}
    assert [[record.round for record in results.visits_of(name)] for name in "abc"] == [
        [0, 1, 2],
        [0],
        [0, 1, 2],
    ]

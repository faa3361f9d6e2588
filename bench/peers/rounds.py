"""Measures every contestant in every round. They take turns in going first, and only one runs at a time.

If a round would not fit in the remaining time, the slowest contestants are skipped from then on. The first
contestant, with which the others are compared, is never skipped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.peers.contestant import Contestant
from bench.peers.figures import Cell, Results, RoundRecord, make_cell
from bench.peers.peer import PeerUnavailable
from bench.peers.weights.prompts import Prompts
from cli.bench.load import Bounds

#: The chats of one cell are numbered from a multiple of this.
_NUMBERS = 10_000
_WARM_UP_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Plan:
    streams: tuple[int, ...]
    runs: int
    output_tokens: int
    #: Requests per stream in a cell.
    waves: int
    #: A cell sends no requests after this time.
    limit_s: float
    #: Time for all rounds.
    budget_s: float

    def num_requests(self, streams: int) -> int:
        return max(3, streams * self.waves)


class Rounds:
    """Runs all rounds. Every contestant of a round gets the same chats."""

    def __init__(
        self,
        contestants: Sequence[Contestant],
        prompts: Prompts,
        plan: Plan,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._contestants = list(contestants)
        self._prompts = prompts
        self._plan = plan
        self._clock = clock
        #: Duration in seconds of each contestant's last round.
        self._took: dict[str, float] = {}
        self._cells: list[Cell] = []
        self._visits: list[RoundRecord] = []
        self._missing: dict[str, str] = {}

    def run(self) -> Results:
        until = self._clock() + self._plan.budget_s
        for round_ in range(self._plan.runs):
            self._skip_slowest(until - self._clock(), round_)
            shift = round_ % len(self._contestants)
            for contestant in self._contestants[shift:] + self._contestants[:shift]:
                if contestant.name not in self._missing:
                    started = self._clock()
                    self._run_round(contestant, round_)
                    self._took[contestant.name] = self._clock() - started
        versions = {contestant.name: contestant.version for contestant in self._contestants}
        return Results(tuple(self._cells), tuple(self._visits), versions, self._missing)

    def _skip_slowest(self, left_s: float, round_: int) -> None:
        """Skips the slowest contestants until a round of the others fits in `left_s`."""
        names = [one.name for one in self._contestants[1:] if one.name not in self._missing]
        names.sort(key=lambda name: self._took.get(name, 0.0))
        base_s = self._took.get(self._contestants[0].name, 0.0)
        while names and base_s + sum(self._took.get(name, 0.0) for name in names) > left_s:
            name = names.pop()
            reason = (
                f"too slow for round {round_ + 1} in the remaining time: {self._took[name]:.0f} s per round"
            )
            print(f"{name}: {reason}", flush=True)
            self._missing[name] = reason

    def _run_round(self, contestant: Contestant, round_: int) -> None:
        (first,) = self._prompts.chats(-1 - round_, 1)
        try:
            start_s = contestant.start(first)
            print(f"round {round_ + 1}: {contestant.name}, first token after {start_s:.1f} s", flush=True)
            for index, streams in enumerate(self._plan.streams):
                self._measure(contestant, streams, round_, (1 + index + 100 * round_) * _NUMBERS)
            peak = contestant.group.peak_mib()
            self._visits.append(RoundRecord(contestant.name, round_, round(start_s, 2), round(peak)))
        except PeerUnavailable as error:
            print(f"{contestant.name}: {error}", flush=True)
            self._missing[contestant.name] = str(error)
        finally:
            contestant.stop()

    def _measure(self, contestant: Contestant, streams: int, round_: int, first: int) -> None:
        """Measures one cell after a short warm-up answer on each stream."""
        tokens, number = self._plan.output_tokens, self._plan.num_requests(streams)
        warm_up = self._prompts.chats(first, streams)
        contestant.answer(warm_up, _WARM_UP_TOKENS, streams, Bounds(streams, self._plan.limit_s))
        chats = self._prompts.chats(first + streams, number)
        started, before = time.perf_counter(), contestant.group.usage()
        samples = contestant.answer(chats, tokens, streams, Bounds(number, self._plan.limit_s))
        seconds = time.perf_counter() - started
        used = contestant.group.usage().since(before)
        cell = make_cell(contestant.name, streams, round_, samples, tokens, seconds, used)
        self._cells.append(cell)
        print(f"  {_line(cell)}", flush=True)


def _line(cell: Cell) -> str:
    errors = f", errors: {cell.errors}" if cell.errors else ""
    mark = ", disturbed" if cell.is_disturbed else ""
    return (
        f"{cell.streams} streams: {cell.tokens_per_s:.1f} tokens/s, first token {cell.first_p50} ms, between "
        f"tokens {cell.gap_p50} ms, other processes {cell.other_cores:.2f} cores{mark}{errors}"
    )

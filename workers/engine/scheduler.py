"""Scheduler: which tokens of which sequences one step computes. Knows no torch, no clock, no I/O."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

from workers.engine.sequence import Sequence


@dataclass(frozen=True, slots=True)
class Row:
    """`count` tokens of a sequence from `start` on, computed in one step."""

    sequence: Sequence
    slot: int
    start: int
    count: int

    @property
    def end(self) -> int:
        return self.start + self.count

    @property
    def draws(self) -> bool:
        """Whether the step computes the sequence's last token, so that the next one can be drawn."""
        return self.end == self.sequence.num_tokens

    @property
    def token_ids(self) -> list[int]:
        return self.sequence.token_ids[self.start : self.end]


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: first the rows of one token, by slot, then the longer ones."""

    rows: tuple[Row, ...]

    @property
    def drawing_rows(self) -> list[Row]:
        return [row for row in self.rows if row.draws]

    @property
    def num_tokens(self) -> int:
        return sum(row.count for row in self.rows)


class Scheduler:
    """Holds who waits and who runs. First come, first served; decoding goes before reading prompts."""

    def __init__(
        self, *, max_slots: int, prefill_chunk: int, max_step_tokens: int, max_kv_tokens: int | None = None
    ) -> None:
        self._prefill_chunk = prefill_chunk
        self._max_step_tokens = max_step_tokens
        self._max_kv_tokens = max_kv_tokens
        # A heap: low slots first, which keeps those in use together.
        self._free_slots = list(range(max_slots))
        self._waiting: deque[Sequence] = deque()
        self._running: dict[int, Sequence] = {}  # by slot

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        return len(self._running)

    @property
    def has_work(self) -> bool:
        return bool(self._waiting or self._running)

    def add(self, sequence: Sequence) -> None:
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Ends a sequence, running or waiting; its slot is free for the next step."""
        if sequence.slot is None:
            self._waiting.remove(sequence)
            return
        del self._running[sequence.slot]
        heapq.heappush(self._free_slots, sequence.slot)
        sequence.slot = None

    def schedule(self) -> Plan:
        """The next step; without rows when nothing waits or runs."""
        self._admit()
        decoding = [s for s in self._running.values() if s.num_uncomputed == 1]
        prefilling = [s for s in self._running.values() if s.num_uncomputed > 1]
        rows = [_row(sequence, 1) for sequence in decoding]
        budget = self._max_step_tokens - len(rows)
        for sequence in prefilling:
            count = min(sequence.num_uncomputed, self._prefill_chunk, budget)
            if count:
                rows.append(_row(sequence, count))
                budget -= count
        return Plan(tuple(sorted(rows, key=lambda row: (row.count > 1, row.count == 1 and row.slot))))

    def _admit(self) -> None:
        while self._waiting and self._free_slots and self._fits(self._waiting[0]):
            sequence = self._waiting.popleft()
            sequence.slot = heapq.heappop(self._free_slots)
            self._running[sequence.slot] = sequence

    def _fits(self, sequence: Sequence) -> bool:
        """The cache is a rectangle, slots in use x longest sequence: judged by what it may grow to."""
        if self._max_kv_tokens is None or not self._running:
            return True
        slots = max(self._free_slots[0], *self._running) + 1
        longest = max(sequence.max_len, *(running.max_len for running in self._running.values()))
        return slots * longest <= self._max_kv_tokens


def _row(sequence: Sequence, count: int) -> Row:
    assert sequence.slot is not None
    return Row(sequence, sequence.slot, sequence.num_computed, count)

"""Scheduler: which tokens of which sequences one step computes. Knows no torch, no clock, no I/O."""

from __future__ import annotations

import heapq
from collections import deque
from typing import Protocol

from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.plan import Plan, Row
from workers.engine.scheduling.sequence import Sequence


class Prefixes(Protocol):
    """What is known of sequences already; a PrefixCache."""

    def find(self, sequence: Sequence) -> int:
        """How many of its first tokens need not be computed."""


#: While sequences decode, a step reads at least this many tokens of prompts, or as many as take that time.
_MIN_READ = 64
#: A step in which tokens are guessed has at most so many, and rows for no more than half of them: others wait
#: for what is guessed of one, and where there are many they lose more than that one gains.
_DRAFTED_STEP = 32
#: What a step takes beside the time of its tokens, in tokens: mostly to read the weights. Some ten on the CPU
#: of docs/benchmarks.md.
_STEP_COST = 10


class Scheduler:
    """Holds who waits and who runs. First come, first served; decoding goes before reading prompts.

    How much of a step goes to prompts is a matter of how many sequences read theirs and how many would wait
    for them: many new ones get most of it, one with a long prompt among many streams little. A token far
    behind in its prompt counts as several: it attends to so many keys.

    Sequences are admitted for what they hold, not for what they may grow to. Where memory runs out, the one
    that was admitted last gives its slot back and waits before all others: it is read anew.
    """

    def __init__(
        self,
        *,
        max_slots: int,
        prefill_chunk: int,
        max_step_tokens: int,
        kv_budget: KVBudget | None = None,
        prefixes: Prefixes | None = None,
        attention_span: int | None = None,
    ) -> None:
        """`attention_span`: to how many keys a token attends in the time that the rest of it takes; None: to
        any number."""
        self._prefill_chunk = prefill_chunk
        self._max_step_tokens = max_step_tokens
        self._kv_budget = kv_budget
        self._prefixes = prefixes
        self._attention_span = attention_span
        # A heap: low slots first, which keeps those in use together.
        self._free_slots = list(range(max_slots))
        self._freed: list[int] = []
        self._waiting: deque[Sequence] = deque()
        # By slot, in the order of admission.
        self._running: dict[int, Sequence] = {}
        #: How often a sequence gave its slot back.
        self.num_preempted = 0

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
        self._leave(sequence.slot)
        sequence.slot = None

    def schedule(self) -> Plan:
        """The next step; without rows when nothing waits or runs."""
        self._preempt()
        admitted = self._admit()
        decoding = [s for s in self._running.values() if s.num_uncomputed == 1]
        prefilling = [s for s in self._running.values() if s.num_uncomputed > 1]
        rows = [] if prefilling else self._guess(decoding)
        rows += [_row(sequence, 1) for sequence in decoding[len(rows) :]]
        rows += self._read(prefilling, num_decoding=len(decoding))
        freed, self._freed = tuple(self._freed), []
        rows.sort(key=lambda row: (row.count > 1, row.count == 1 and row.slot))
        return Plan(tuple(rows), freed, admitted)

    def _guess(self, decoding: list[Sequence]) -> list[Row]:
        """Rows of the first that decode, with what may follow, as long as the step stays short."""
        left = min(_DRAFTED_STEP, self._max_step_tokens) - len(decoding)
        rows: list[Row] = []
        if left < len(decoding):
            return rows
        for sequence in decoding:
            draft = sequence.draft(min(left, self._spare(sequence)), _worthwhile(len(decoding)))
            rows.append(_row(sequence, 1 + len(draft), draft))
            left -= len(draft)
        return rows

    def _spare(self, sequence: Sequence) -> int:
        """Tokens that its slot holds beyond those it has: a guess takes no memory."""
        if self._kv_budget is None:
            return self._max_step_tokens
        return self._kv_budget.charge(sequence.num_tokens) - sequence.num_tokens

    def _read(self, prefilling: list[Sequence], *, num_decoding: int) -> list[Row]:
        """Chunks of prompts. Where nothing decodes a token is a token: nobody waits for the step.

        Those who decode wait for long prompts as their share of the sequences is; what one chunk ends is soon
        among them.
        """
        left = self._max_step_tokens - num_decoding
        work = float(left)
        if num_decoding:
            share = len(prefilling) / (len(prefilling) + num_decoding)
            rests = (sequence.num_uncomputed for sequence in prefilling)
            short = sum(rest for rest in rests if rest <= self._prefill_chunk)
            work = max(share * left, min(max(_MIN_READ, short), left))
        rows: list[Row] = []
        for sequence in prefilling:
            cost = self._cost(sequence.num_computed) if num_decoding else 1.0
            count = min(sequence.num_uncomputed, self._prefill_chunk, int(work / cost))
            # Whoever comes first goes on, be it slowly.
            if not rows and left:
                count = max(count, 1)
            if count:
                rows.append(_row(sequence, count))
                work -= count * cost
        return rows

    def _cost(self, position: int) -> float:
        """Of a token there, in tokens of the first position."""
        return 1.0 if self._attention_span is None else 1 + position / self._attention_span

    def _admit(self) -> tuple[Sequence, ...]:
        admitted = []
        for sequence in list(self._waiting):
            if not (self._free_slots and self._fits(sequence)):
                break
            if self._is_read_by_sibling(sequence):
                continue
            self._waiting.remove(sequence)
            sequence.slot = heapq.heappop(self._free_slots)
            self._running[sequence.slot] = sequence
            # What is copied gives no logits.
            if self._prefixes is not None and not sequence.tells_prompt:
                sequence.num_computed = self._prefixes.find(sequence)
            admitted.append(sequence)
        return tuple(admitted)

    def _is_read_by_sibling(self, sequence: Sequence) -> bool:
        """Whether another choice of the request is reading the prompt: then it is read once, and copied."""
        if self._prefixes is None or sequence.prefix_root is None or sequence.sampling.n == 1:
            return False
        return any(
            other.request_id == sequence.request_id and other.num_computed < other.num_prompt_tokens
            for other in self._running.values()
        )

    def _preempt(self) -> None:
        """Whoever is alone fits: a request that never does is not taken."""
        while len(self._running) > 1 and not self._fits():
            sequence = next(reversed(self._running.values()))
            self.remove(sequence)
            sequence.num_computed = 0
            self._waiting.appendleft(sequence)
            self.num_preempted += 1

    def _fits(self, *more: Sequence) -> bool:
        """Whether there is memory for all that run, and more."""
        if self._kv_budget is None or not self._running:
            return True
        sequences = (*self._running.values(), *more)
        return self._kv_budget.holds(sum(self._kv_budget.charge(s.num_tokens) for s in sequences))

    def _leave(self, slot: int) -> None:
        del self._running[slot]
        heapq.heappush(self._free_slots, slot)
        self._freed.append(slot)


def _worthwhile(num_decoding: int) -> float:
    """The chance from which on a guess pays: one that comes true saves a step, whose cost so many
    share."""
    return num_decoding / (num_decoding + _STEP_COST)


def _row(sequence: Sequence, count: int, draft: tuple[int, ...] = ()) -> Row:
    assert sequence.slot is not None
    return Row(sequence, sequence.slot, sequence.num_computed, count, draft)

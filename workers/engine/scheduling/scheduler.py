"""Scheduler: decides which tokens of which sequences a step computes. It uses no torch, clock or I/O."""

from __future__ import annotations

import heapq
from collections import deque
from typing import Protocol

from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.plan import Plan, Row
from workers.engine.scheduling.rotary_rule import RotaryRule
from workers.engine.scheduling.sequence import Sequence


class Prefixes(Protocol):
    """Finds cached prefixes; implemented by PrefixCache."""

    def find(self, sequence: Sequence) -> int:
        """Return how many leading tokens need not be computed."""


#: Minimum prefill tokens of a step while sequences decode (or fewer, if they take as long).
_MIN_PREFILL = 64
#: Maximum tokens of a step with drafts; at most half of them may be rows. Other sequences wait while a draft
#: is verified, and with many of them that costs more than the draft gains.
_MAX_DRAFTED_STEP = 32
#: Fixed cost of a step in tokens, mostly for reading the weights. About ten on the CPU of docs/benchmarks.md.
_STEP_COST = 10


class Scheduler:
    """Holds the waiting and the running sequences. First come, first served; decoding comes before prefill.

    The share of prefill in a step depends on how many sequences prefill and how many decode. Many new
    sequences get most of a step; one long prompt beside many streams gets little. A token late in a prompt
    counts as several, because it attends to many keys.

    A sequence is admitted for its current length, not for its maximum length. When memory runs out, the most
    recently admitted sequence is preempted: it gives its slot back, waits before all others, and is prefilled
    again.
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
        rotary: RotaryRule | None = None,
    ) -> None:
        """`attention_span`: the number of keys whose attention costs as much as the rest of a token. None:
        attention is free."""
        self._prefill_chunk = prefill_chunk
        self._max_step_tokens = max_step_tokens
        self._kv_budget = kv_budget
        self._prefixes = prefixes
        self._attention_span = attention_span
        self._rotary = rotary
        # A heap: the lowest slot first, which keeps used slots close together.
        self._free_slots = list(range(max_slots))
        self._freed: list[int] = []
        self._waiting: deque[Sequence] = deque()
        # By slot, in order of admission.
        self._running: dict[int, Sequence] = {}
        #: Number of preemptions so far.
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
        """Remove a running or waiting sequence. Its slot is free for the next step."""
        if sequence.slot is None:
            self._waiting.remove(sequence)
            return
        self._leave(sequence.slot)
        sequence.slot = None

    def schedule(self) -> Plan:
        """Return the next step. It has no rows if nothing waits or runs."""
        self._restart_outgrown()
        self._preempt()
        admitted = self._admit()
        decoding = [s for s in self._running.values() if s.num_uncomputed == 1]
        prefilling = [s for s in self._running.values() if s.num_uncomputed > 1]
        rows = [] if prefilling else self._drafted(decoding)
        rows += [_row(sequence, 1) for sequence in decoding[len(rows) :]]
        rows += self._prefill(prefilling, num_decoding=len(decoding))
        freed, self._freed = tuple(self._freed), []
        rows.sort(key=lambda row: (row.count > 1, row.count == 1 and row.slot))
        return Plan(tuple(rows), freed, admitted)

    def _drafted(self, decoding: list[Sequence]) -> list[Row]:
        """Rows with drafts for the first decoding sequences, as long as the step stays short."""
        left = min(_MAX_DRAFTED_STEP, self._max_step_tokens) - len(decoding)
        rows: list[Row] = []
        if left < len(decoding):
            return rows
        for sequence in decoding:
            draft = sequence.draft(min(left, self._spare(sequence)), _min_probability(len(decoding)))
            rows.append(_row(sequence, 1 + len(draft), draft))
            left -= len(draft)
        return rows

    def _spare(self, sequence: Sequence) -> int:
        """Maximum length of its draft: free tokens in its slot, as a draft never allocates memory."""
        spare = self._max_step_tokens
        if self._kv_budget is not None:
            spare = self._kv_budget.charge(sequence.num_tokens) - sequence.num_tokens
        room = None if self._rotary is None else self._rotary.room(sequence)
        return spare if room is None else min(spare, room)

    def _restart_outgrown(self) -> None:
        """Compute sequences again whose rotary positions change with their next token."""
        if self._rotary is None:
            return
        for sequence in self._running.values():
            if self._rotary.is_outgrown(sequence):
                self._rotary.start(sequence)
                sequence.num_computed = 0

    def _prefill(self, prefilling: list[Sequence], *, num_decoding: int) -> list[Row]:
        """Chunks of prompts. While nothing decodes every token costs the same, because no one waits for the
        step.

        Otherwise long prompts get a share of the step according to their share of the sequences. Prompts that
        finish with one chunk are favored, because they will decode soon.
        """
        left = self._max_step_tokens - num_decoding
        work = float(left)
        if num_decoding:
            share = len(prefilling) / (len(prefilling) + num_decoding)
            rests = (sequence.num_uncomputed for sequence in prefilling)
            short = sum(rest for rest in rests if rest <= self._prefill_chunk)
            work = max(share * left, min(max(_MIN_PREFILL, short), left))
        rows: list[Row] = []
        for sequence in prefilling:
            cost = self._cost(sequence.num_computed) if num_decoding else 1.0
            count = min(sequence.num_uncomputed, self._prefill_chunk, int(work / cost))
            # The first sequence always makes progress.
            if not rows and left:
                count = max(count, 1)
            if count:
                rows.append(_row(sequence, count))
                work -= count * cost
        return rows

    def _cost(self, position: int) -> float:
        """The cost of a token at this position, relative to a token at the first position."""
        return 1.0 if self._attention_span is None else 1 + position / self._attention_span

    def _admit(self) -> tuple[Sequence, ...]:
        admitted = []
        for sequence in list(self._waiting):
            if not (self._free_slots and self._fits(sequence)):
                break
            if self._is_prefilled_by_sibling(sequence):
                continue
            self._waiting.remove(sequence)
            sequence.slot = heapq.heappop(self._free_slots)
            self._running[sequence.slot] = sequence
            if self._rotary is not None:
                self._rotary.start(sequence)
            # Copied tokens yield no logits.
            if self._prefixes is not None and not sequence.wants_prompt_logprobs:
                sequence.num_computed = self._prefixes.find(sequence)
            admitted.append(sequence)
        return tuple(admitted)

    def _is_prefilled_by_sibling(self, sequence: Sequence) -> bool:
        """Whether another choice of the same prompt is prefilling. If so, this one waits and copies the
        prefix."""
        if self._prefixes is None or sequence.prefix_root is None or sequence.sampling.n == 1:
            return False
        return any(
            other.request_id == sequence.request_id
            and other.prompt_index == sequence.prompt_index
            and other.num_computed < other.num_prompt_tokens
            for other in self._running.values()
        )

    def _preempt(self) -> None:
        """Preempt sequences until the rest fits. A single sequence always fits: RequestLimits rejects others."""
        while len(self._running) > 1 and not self._fits():
            sequence = next(reversed(self._running.values()))
            self.remove(sequence)
            sequence.num_computed = 0
            self._waiting.appendleft(sequence)
            self.num_preempted += 1

    def _fits(self, *more: Sequence) -> bool:
        """Whether memory suffices for all running sequences and those in `more`."""
        if self._kv_budget is None or not self._running:
            return True
        sequences = (*self._running.values(), *more)
        return self._kv_budget.fits(sum(self._kv_budget.charge(s.num_tokens) for s in sequences))

    def _leave(self, slot: int) -> None:
        del self._running[slot]
        heapq.heappush(self._free_slots, slot)
        self._freed.append(slot)


def _min_probability(num_decoding: int) -> float:
    """The acceptance probability from which a draft token pays off. An accepted token saves one step, whose
    cost all decoding sequences share."""
    return num_decoding / (num_decoding + _STEP_COST)


def _row(sequence: Sequence, count: int, draft: tuple[int, ...] = ()) -> Row:
    assert sequence.slot is not None
    return Row(sequence, sequence.slot, sequence.num_computed, count, draft)

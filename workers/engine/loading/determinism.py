"""Determinism: tests whether a row's logits are bit-identical in any batch and order.

The test runs at every load, on the whole model with its dtype, kernels and threads. It computes each token in
only a few ways, but at very different lengths. One sequence is computed in stretches; the cache between them
holds noise, which is the same for all ways.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel

from shared.domain.sampling import SamplingParams
from workers.engine.cache.slot_cache import KVSpan
from workers.engine.loading.context_length import context_limit
from workers.engine.model.kv_form import make_budget
from workers.engine.model.runner import ModelRunner
from workers.engine.scheduling.plan import Plan, Row
from workers.engine.scheduling.sequence import Sequence

#: Where the stretches begin: at the first token, and such that they cross 128, 256 and 512 keys. Libraries
#: are known to switch algorithms there.
_STARTS = (0, 118, 246, 502)
#: Tokens per stretch.
_STRETCH = 24
#: Maximum cache length of rows that are computed in large batches.
_SHORT = 128
#: Numbers of rows in large batches.
_BATCH_SIZES = (8, 31)

#: Slot, start and end of the tokens to compute.
_Span = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Determinism:
    """The result of a DeterminismTrial."""

    #: Whether all ways of computing gave the same bits.
    is_exact: bool
    #: A digest of the logits. Machines with the same digest compute the same results.
    digest: str


class _Slots:
    """Slots of one length that all hold the same sequence, computed or as noise."""

    @torch.inference_mode()
    def __init__(self, model: PreTrainedModel, sequence: Sequence, *, num_slots: int, length: int) -> None:
        # Cut to the length of the slots.
        self._sequence = replace(sequence, token_ids=sequence.token_ids[:length])
        self._num_slots, self._length = num_slots, length
        budget = make_budget(model, length)
        budget = replace(budget, max_tokens=num_slots * budget.charge(length))
        self._runner = ModelRunner(model, budget)
        # The engine does this as well.
        self._runner.record_decoding(num_slots)
        # Computing the last token of every slot allocates all layers in full size.
        self.compute([(slot, length - 1, length) for slot in range(num_slots)])

    @torch.inference_mode()
    def compute(self, spans: list[_Span]) -> torch.Tensor:
        """Return the logits of every token of the spans, in order."""
        spans = sorted(spans, key=lambda span: span[2] - span[1] > 1)
        rows = tuple(Row(self._sequence, slot, start, end - start) for slot, start, end in spans)
        return self._runner.run(Plan(rows, wants_all=True))

    def make_noise(self) -> None:
        """Fill all slots with the same noise, scaled per layer like the token that the slot holds."""
        generator = torch.Generator().manual_seed(1)
        noise = []
        for layer in self._runner.copy_out(self._num_slots - 1, self._length - 1, self._length):
            noise.append(tuple(_noise_like(states, self._length, generator) for states in layer))
        self._fill(noise)

    def copy(self, source: _Slots) -> None:
        """Copy the first slot of `source` into every slot."""
        self._fill(source._runner.copy_out(0, 0, self._length))

    def _fill(self, span: KVSpan) -> None:
        for slot in range(self._num_slots):
            self._runner.copy_in(slot, 0, span)


def _noise_like(states: torch.Tensor, length: int, generator: torch.Generator) -> torch.Tensor:
    """Noise with the scale of `states`: [kv heads, 1, dim] -> [kv heads, length, dim]."""
    num_heads, _, dim = states.shape
    scale = states.float().square().sum(-1).mean().div(dim).sqrt()
    noise = torch.randn((num_heads, length, dim), generator=generator).to(states.device)
    return (noise * scale).to(states.dtype)


class DeterminismTrial:
    """Computes the same tokens in several ways and compares the bits.

    Costs a forward pass of about 210 tokens, and a cache of 31 slots of 128 tokens or four slots of 640.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config.get_text_config()
        longest = context_limit(config) or _STARTS[-1] + _STRETCH
        self._model = model
        self._starts = [start for start in _STARTS if start + _STRETCH <= longest] or [0]
        self._stretch = min(_STRETCH, longest)
        self._length = self._starts[-1] + self._stretch
        generator = torch.Generator().manual_seed(0)
        token_ids = torch.randint(config.vocab_size, (self._length,), generator=generator).tolist()
        sampling = SamplingParams(max_tokens=1, seed=0)
        self._sequence = Sequence("determinism", 0, sampling, token_ids, num_prompt_tokens=self._length)

    def run(self) -> Determinism:
        slots = _Slots(self._model, self._sequence, num_slots=4, length=self._length)
        slots.make_noise()
        whole = slots.compute([(0, start, start + self._stretch) for start in self._starts])
        slots.copy(slots)
        is_exact = all(
            self._is_same(slots, spans, whole) for spans in self._ways()
        ) and self._is_same_in_large_batches(slots, whole)
        return Determinism(is_exact, _digest(whole))

    def _ways(self) -> list[list[_Span]]:
        """Decoding alone, beside longer rows, and beside chunks; prefill in shorter chunks; and drafts."""
        alone = [[(0, at, at + 1)] for at in map(self._position, range(4), (5, 10, 11, 13))]
        first, *_, last = (self._position(index, 0) for index in range(4))
        second, third = self._position(1, 0), self._position(2, 0)
        return [
            *alone,
            [(1, first + 3, first + 4), (3, last + 9, last + 10)],
            [(0, second + 9, second + 10), (1, first + 2, first + 3), (3, third + 12, third + 13)],
            [(slot, at, at + 1) for slot, at in enumerate((first + 1, second + 20, third + 4, last + 12))],
            [(0, first + 7, first + 8), (2, last + 20, last + 21), (1, third + 8, third + 11)],
            [(2, last + 2, last + 19), (3, second + 9, second + 11)],
            [(1, last, last + self._stretch)],
            [(1, first + 1, first + 6), (2, second + 3, second + 12), (3, last + 4, last + 11)],
        ]

    def _position(self, stretch: int, offset: int) -> int:
        return self._starts[min(stretch, len(self._starts) - 1)] + offset

    def _is_same_in_large_batches(self, source: _Slots, whole: torch.Tensor) -> bool:
        """Decode many rows of different lengths in one batch."""
        length = min(_SHORT, self._length)
        positions = [position for position in self._positions if position < length]
        slots = _Slots(self._model, self._sequence, num_slots=_BATCH_SIZES[-1], length=length)
        slots.copy(source)
        batches = [[positions[7 * slot % len(positions)] for slot in range(num)] for num in _BATCH_SIZES]
        spans = [[(slot, at, at + 1) for slot, at in enumerate(batch)] for batch in batches]
        return all(self._is_same(slots, batch, whole) for batch in spans)

    @property
    def _positions(self) -> list[int]:
        """The position of each row of the reference logits."""
        return [start + offset for start in self._starts for offset in range(self._stretch)]

    def _is_same(self, slots: _Slots, spans: list[_Span], whole: torch.Tensor) -> bool:
        row_of = {position: row for row, position in enumerate(self._positions)}
        ordered = sorted(spans, key=lambda span: span[2] - span[1] > 1)
        rows = [row_of[position] for _, start, end in ordered for position in range(start, end)]
        return torch.equal(slots.compute(spans), whole[rows])


def _digest(logits: torch.Tensor) -> str:
    return hashlib.blake2b(logits.float().cpu().numpy().tobytes(), digest_size=8).hexdigest()

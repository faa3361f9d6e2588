"""Determinism: whether a row's logits are the same, bit for bit, in whatever company and order it is computed.

Tried at every load on the whole model, with its dtype, kernels and threads. Each token is computed in a few
ways only, but at lengths far apart: one sequence is computed in stretches, and what lies between them in the
cache is noise, which every way of computing reads alike.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel

from shared.domain.sampling import SamplingParams
from workers.engine.cache.select import make_budget
from workers.engine.cache.slot_cache import KVSpan
from workers.engine.model.runner import ModelRunner
from workers.engine.scheduling.plan import Plan, Row
from workers.engine.scheduling.sequence import Sequence

#: Where the stretches begin: at the first token, and so that they cross 128, 256 and 512 keys, at which
#: libraries are known to change their way.
_STARTS = (0, 118, 246, 502)
#: Tokens of a stretch.
_STRETCH = 24
#: Longest cache of the rows that are computed among many others.
_SHORT = 128
#: Rows that are computed together.
_CROWDS = (8, 31)

#: Slot, and from where to where the sequence is computed in it.
_Span = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Determinism:
    """What a trial found."""

    #: Whether all ways agreed.
    is_exact: bool
    #: Of the logits of one way: machines with the same digest compute the same.
    digest: str


class _Slots:
    """Slots of one length that hold the same sequence, computed or noise."""

    @torch.inference_mode()
    def __init__(self, model: PreTrainedModel, sequence: Sequence, *, num_slots: int, length: int) -> None:
        # Not longer than its slots.
        self._sequence = replace(sequence, token_ids=sequence.token_ids[:length])
        self._num_slots, self._length = num_slots, length
        budget = make_budget(model, length)
        budget = replace(budget, max_tokens=num_slots * budget.charge(length))
        self._runner = ModelRunner(model, budget)
        # As the engine does.
        self._runner.record_decoding(num_slots)
        # The last token of every slot makes the layers, in full size.
        self.compute([(slot, length - 1, length) for slot in range(num_slots)])

    @torch.inference_mode()
    def compute(self, spans: list[_Span]) -> torch.Tensor:
        """Logits of every token of the spans, one after another."""
        spans = sorted(spans, key=lambda span: span[2] - span[1] > 1)
        rows = tuple(Row(self._sequence, slot, start, end - start) for slot, start, end in spans)
        return self._runner.run(Plan(rows, wants_all=True))

    def make_noise(self) -> None:
        """Fill all slots alike, each layer as loud as the token that it holds."""
        generator = torch.Generator().manual_seed(1)
        noise = []
        for layer in self._runner.copy_out(self._num_slots - 1, self._length - 1, self._length):
            noise.append(tuple(_noise_like(states, self._length, generator) for states in layer))
        self._fill(noise)

    def copy(self, source: _Slots) -> None:
        """Hold, in every slot, what the source's first holds."""
        self._fill(source._runner.copy_out(0, 0, self._length))

    def _fill(self, span: KVSpan) -> None:
        for slot in range(self._num_slots):
            self._runner.copy_in(slot, 0, span)


def _noise_like(states: torch.Tensor, length: int, generator: torch.Generator) -> torch.Tensor:
    """states [kv heads, 1, dim] -> [kv heads, length, dim], as loud."""
    num_heads, _, dim = states.shape
    loudness = states.float().square().sum(-1).mean().div(dim).sqrt()
    noise = torch.randn((num_heads, length, dim), generator=generator).to(states.device)
    return (noise * loudness).to(states.dtype)


class DeterminismTrial:
    """Computes the same tokens in several ways.

    Costs a forward of some 210 tokens, and a cache of 31 slots of 128 tokens or four of 640.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        config = model.config.get_text_config()
        longest: int = getattr(config, "max_position_embeddings", None) or _STARTS[-1] + _STRETCH
        self._model = model
        self._starts = [start for start in _STARTS if start + _STRETCH <= longest] or [0]
        self._stretch = min(_STRETCH, longest)
        self._length = self._starts[-1] + self._stretch
        generator = torch.Generator().manual_seed(0)
        token_ids = torch.randint(config.vocab_size, (self._length,), generator=generator).tolist()
        sampling = SamplingParams(max_tokens=1, seed=0)
        self._sequence = Sequence("exactness", 0, sampling, token_ids, num_prompt_tokens=self._length)

    def run(self) -> Determinism:
        slots = _Slots(self._model, self._sequence, num_slots=4, length=self._length)
        slots.make_noise()
        whole = slots.compute([(0, start, start + self._stretch) for start in self._starts])
        slots.copy(slots)
        is_exact = all(self._is_same(slots, spans, whole) for spans in self._ways()) and self._in_crowds(
            slots, whole
        )
        return Determinism(is_exact, _digest(whole))

    def _ways(self) -> list[list[_Span]]:
        """Decoded alone; beside longer ones; beside chunks; read anew in shorter chunks; and with drafts."""
        alone = [[(0, place, place + 1)] for place in map(self._place, range(4), (5, 10, 11, 13))]
        first, *_, last = (self._place(index, 0) for index in range(4))
        second, third = self._place(1, 0), self._place(2, 0)
        return [
            *alone,
            [(1, first + 3, first + 4), (3, last + 9, last + 10)],
            [(0, second + 9, second + 10), (1, first + 2, first + 3), (3, third + 12, third + 13)],
            [
                (slot, place, place + 1)
                for slot, place in enumerate((first + 1, second + 20, third + 4, last + 12))
            ],
            [(0, first + 7, first + 8), (2, last + 20, last + 21), (1, third + 8, third + 11)],
            [(2, last + 2, last + 19), (3, second + 9, second + 11)],
            [(1, last, last + self._stretch)],
            [(1, first + 1, first + 6), (2, second + 3, second + 12), (3, last + 4, last + 11)],
        ]

    def _place(self, stretch: int, offset: int) -> int:
        return self._starts[min(stretch, len(self._starts) - 1)] + offset

    def _in_crowds(self, source: _Slots, whole: torch.Tensor) -> bool:
        """Many rows together, each of another length."""
        length = min(_SHORT, self._length)
        places = [place for place in self._places if place < length]
        slots = _Slots(self._model, self._sequence, num_slots=_CROWDS[-1], length=length)
        slots.copy(source)
        crowds = [[places[7 * slot % len(places)] for slot in range(num)] for num in _CROWDS]
        spans = [[(slot, place, place + 1) for slot, place in enumerate(crowd)] for crowd in crowds]
        return all(self._is_same(slots, crowd, whole) for crowd in spans)

    @property
    def _places(self) -> list[int]:
        """The position of each row of `whole`."""
        return [start + offset for start in self._starts for offset in range(self._stretch)]

    def _is_same(self, slots: _Slots, spans: list[_Span], whole: torch.Tensor) -> bool:
        row_of = {place: row for row, place in enumerate(self._places)}
        ordered = sorted(spans, key=lambda span: span[2] - span[1] > 1)
        rows = [row_of[place] for _, start, end in ordered for place in range(start, end)]
        return torch.equal(slots.compute(spans), whole[rows])


def _digest(logits: torch.Tensor) -> str:
    return hashlib.blake2b(logits.float().cpu().numpy().tobytes(), digest_size=8).hexdigest()

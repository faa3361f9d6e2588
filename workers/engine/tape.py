"""Tape: a model's forward as the torch calls that it makes, without the Python around them.

Between those calls transformers takes modules out of modules, hands arguments down and shapes apart, which
for few rows is a tenth of a step. The calls are the model's own, in its order, so the logits are the same
to the last bit.

Two forwards of different lengths are recorded. Where they differ there is the number of tokens; a tensor that
is the same object in both is a weight. A model whose calls depend on anything else goes on as it is, and so
does one that looks at values.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from shared.sampling import SamplingParams
from workers.engine.kv_budget import KVBudget
from workers.engine.kv_cache import SlotCache
from workers.engine.model_runner import forward_inputs
from workers.engine.recording import NotReplayable, Recorder, Recording
from workers.engine.scheduler import Plan, Row
from workers.engine.sequence import Sequence
from workers.engine.transcript import Play, transcribe

log = logging.getLogger(__name__)

#: Tokens of each row, of the two forwards that are recorded, and of those on which it is tried.
_RECORDED = ((1, 4), (1, 1, 5))
_TRIED = ((1,), (1, 1, 1, 3, 14))


def use_tape(model: PreTrainedModel) -> bool:
    """Makes the model's forward a tape, in place, where it can be one; answers whether it is.

    The model is one that attends over a SlotCache; its forward then takes what ModelRunner gives, by name.
    """
    try:
        play = _made(model)
    except NotReplayable as error:
        log.info("%s runs as it is: %s", type(model).__name__, error)
        return False

    def forward(**inputs: Any) -> CausalLMOutput:
        return CausalLMOutput(logits=play(**inputs))

    model.forward = forward
    return True


@torch.inference_mode()
def _made(model: PreTrainedModel) -> Play:
    play = transcribe(*(_record(model, counts) for counts in _RECORDED))
    for tried in (_record(model, counts) for counts in _TRIED):
        # It writes into the cache again what the forward wrote.
        try:
            is_same = torch.equal(play(**tried.inputs), tried.logits)
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            raise NotReplayable(f"its calls do not fit another number of tokens: {error}") from error
        if not is_same:
            raise NotReplayable("its calls depend on more than the number of tokens")
    return play


def _record(model: PreTrainedModel, counts: tuple[int, ...]) -> Recording:
    """A forward of random tokens."""
    cache = SlotCache(KVBudget(max(counts)))
    plan = Plan(tuple(_row(model, slot, count) for slot, count in enumerate(counts)))
    inputs = forward_inputs(cache.begin(plan, model.device), cache)
    with Recorder() as recorder:
        output = model(**inputs)
    return Recording(inputs, recorder.calls, output.logits)


def _row(model: PreTrainedModel, slot: int, count: int) -> Row:
    generator = torch.Generator().manual_seed(slot)
    tokens = torch.randint(model.config.get_text_config().vocab_size, (count,), generator=generator).tolist()
    sequence = Sequence("tape", slot, SamplingParams(max_tokens=1, seed=0), tokens, count)
    return Row(sequence, slot, 0, count)

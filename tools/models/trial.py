"""Trial: compares what the engine generates with what transformers' `generate` does, for one model.

Each prompt is generated alone; beside shorter and longer ones, with prompts in chunks and sequences that are preempted
and computed again; continued after its first tokens, as another worker would; and with kept prefixes and
guessed tokens.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from shared.domain.output import ChoiceOutput, Finish
from shared.domain.prompt_logprobs import PromptToken
from shared.domain.sampling import SamplingParams
from workers.engine.cache.slot_cache import KVSpan
from workers.engine.engine import Engine
from workers.engine.model.kv_form import make_budget
from workers.engine.model.runner import ModelRunner
from workers.engine.model.sequence_rotary import rotary_rule
from workers.engine.resolved_request import ResolvedRequest
from workers.engine.sampling.logprobs import Scores
from workers.engine.sampling.sampler import Sampler
from workers.engine.scheduling.drafter import Drafter
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.prefix_cache import PrefixCache
from workers.engine.scheduling.scheduler import Scheduler

#: Lengths of the prompts. Windows, chunks and borders of tiny models lie between them.
LENGTHS = (3, 9, 20, 70)
NUM_TOKENS = 14
#: Tokens after which a sequence is continued by another engine.
_CUTS = (1, 6, 13)
#: Prompt tokens in a step, and the tokens that running sequences may have together: the last ones are preempted.
_CHUNK = 11
_PAGE = 8
#: Tokens of prefixes that are kept.
_MAX_KEPT = 4096


@dataclass(frozen=True, slots=True)
class Expected:
    """A prompt, and what `generate` makes of it."""

    prompt: tuple[int, ...]
    token_ids: tuple[int, ...]


def expect(
    model: PreTrainedModel, lengths: Iterable[int] = LENGTHS, num_tokens: int = NUM_TOKENS
) -> list[Expected]:
    """Let an untouched model generate, one prompt at a time, greedily."""
    chance = random.Random(1)
    vocabulary = model.config.get_text_config().vocab_size
    prompts = [tuple(chance.randrange(3, vocabulary) for _ in range(length)) for length in lengths]
    return [Expected(prompt, _generate(model, prompt, num_tokens)) for prompt in prompts]


def find_difference(model: PreTrainedModel, expected: list[Expected]) -> str | None:
    """Where the engine's tokens differ from the expected ones. None: nowhere. `model` has been prepared."""
    for one in expected:
        if _run(model, [one], chunk=128) != [one.token_ids]:
            return f"alone, a prompt of {len(one.prompt)} tokens"
    total = sum(len(one.prompt) for one in expected)
    for order in (expected, expected[::-1]):
        if _run(model, order, chunk=_CHUNK, max_tokens=total) != [one.token_ids for one in order]:
            return "beside others"
    for cut in _CUTS:
        begun = [one.token_ids[:cut] for one in expected]
        if _run(model, expected, chunk=_CHUNK, begun=begun) != [one.token_ids for one in expected]:
            return f"continued after {cut} tokens"
    prefixes = PrefixCache[KVSpan](_MAX_KEPT)
    for attempt in ("first", "second"):
        if _run(model, expected, chunk=_CHUNK, prefixes=prefixes) != [one.token_ids for one in expected]:
            return f"with kept prefixes and guessed tokens, at the {attempt} time"
    return None


def _generate(model: PreTrainedModel, prompt: tuple[int, ...], num_tokens: int) -> tuple[int, ...]:
    ids = torch.tensor([prompt])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=num_tokens, do_sample=False, pad_token_id=0
    )
    return tuple(output[0, len(prompt) :].tolist())


class _Tokens:
    """Takes the drawn tokens of one choice, without any text."""

    def __init__(self, request: ResolvedRequest, choice: int) -> None:
        self._num_left = request.sampling.max_tokens
        self._choice = choice
        self.token_ids: list[int] = []

    def read_prompt(self, tokens: list[PromptToken]) -> None:
        raise NotImplementedError

    def push(
        self,
        token_id: int,
        scores: Scores | None = None,  # noqa: ARG002
        *,
        is_complete: bool = False,  # noqa: ARG002
    ) -> ChoiceOutput | None:
        self.token_ids.append(token_id)
        finish = Finish("length") if len(self.token_ids) == self._num_left else None
        return ChoiceOutput(self._choice, len(self.token_ids) - 1, (token_id,), ("",), finish)

    def replay(
        self,
        so_far: ChoiceOutput,
        *,
        is_complete: bool = False,  # noqa: ARG002
    ) -> ChoiceOutput | None:
        self.token_ids += so_far.ids
        return None


def _run(
    model: PreTrainedModel,
    wanted: list[Expected],
    *,
    chunk: int,
    max_tokens: int | None = None,
    begun: list[tuple[int, ...]] | None = None,
    prefixes: PrefixCache[KVSpan] | None = None,
) -> list[tuple[int, ...]]:
    """Generate all together.

    `max_tokens`: what may be in the cache. `begun`: tokens that were released before. `prefixes`: keep prefixes there,
    and guess tokens.
    """
    longest = max(len(one.prompt) + len(one.token_ids) for one in wanted)
    budget = make_budget(model, longest)
    outputs: dict[str, _Tokens] = {}

    def make_output(request: ResolvedRequest, choice: int) -> _Tokens:
        outputs[str(request.prompts[0])] = made = _Tokens(request, choice)
        return made

    scheduler = Scheduler(
        max_slots=len(wanted),
        prefill_chunk=chunk,
        max_step_tokens=max(chunk, 4 * len(wanted)),
        kv_budget=KVBudget(longest, max_tokens, page=_PAGE),
        prefixes=prefixes,
        rotary=rotary_rule(model),
    )
    engine = Engine(
        ModelRunner(model, budget, prefixes),
        scheduler,
        Sampler(),
        make_output,
        budget,
        prefixes,
        make_drafter=None if prefixes is None else Drafter,
    )
    for index, one in enumerate(wanted):
        sampling = SamplingParams(max_tokens=len(one.token_ids), seed=0, temperature=0.0)
        ids = begun[index] if begun else ()
        so_far = (ChoiceOutput(0, 0, ids, ("",) * len(ids)),) if ids else ()
        engine.add(str(index), ResolvedRequest((one.prompt,), sampling, (), "trial"), so_far, owner="trial")
        engine.step()
    while engine.has_work:
        for output in engine.step():
            assert output.error is None, output.error
    return [tuple(outputs[str(one.prompt)].token_ids) for one in wanted]

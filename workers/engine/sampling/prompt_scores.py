"""PromptLogprobCollector: log probabilities of the prompt tokens that one step computes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from shared.domain.prompt_logprobs import PromptToken
from workers.engine.sampling.draw import most_likely
from workers.engine.sampling.logprobs import score_prompt
from workers.engine.sampling.numerics import NumericalError
from workers.engine.scheduling.plan import Plan, Row
from workers.engine.scheduling.sequence import Sequence


class PromptLogprobCollector(NamedTuple):
    """Scored consecutive tokens of one sequence's prompt."""

    sequence: Sequence
    tokens: list[PromptToken]
    #: Set if the logits of one of them are unusable.
    error: NumericalError | None = None


def read_prompts(plan: Plan, logits: Tensor) -> tuple[list[PromptLogprobCollector], Tensor]:
    """Score the prompt tokens of a step. Also returns the logits, [rows, V], that the rows draw from.

    `logits`: [requested, V].
    """
    if not any(row.sequence.wants_prompt_logprobs for row in plan.rows):
        return [], logits
    scores, drawn_from, start = list[PromptLogprobCollector](), list[int](), 0
    for row in plan.rows:
        own = range(start, start + len(row.wanted))
        start = own.stop
        if row.sequence.wants_prompt_logprobs:
            scores.append(_scores(row, logits[own.start : own.stop]))
            own = own[-1:] if row.draws else own[:0]
        drawn_from += own
    return scores, logits.index_select(0, torch.tensor(drawn_from, dtype=torch.long, device=logits.device))


def _scores(row: Row, logits: Tensor) -> PromptLogprobCollector:
    sequence, first = row.sequence, row.wanted.start + 1
    following = sequence.token_ids[first : first + len(row.wanted)]
    num_top = sequence.sampling.prompt_logprobs or 0
    own = logits[: len(following)]
    error = None if bool(most_likely(own).values.isfinite().all()) else NumericalError()
    return PromptLogprobCollector(sequence, score_prompt(own, following, num_top), error)

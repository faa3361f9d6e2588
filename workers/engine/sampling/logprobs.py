"""Logprobs: the model's own log probabilities of drawn tokens, prompt tokens and their alternatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shared.domain.prompt_logprobs import PromptToken
from workers.engine.sampling.ranking import best_ids

#: The value for a token with probability 0, as in OpenAI's API. JSON has no infinity.
LOWEST = -9999.0
#: More would exceed the precision of a float32, and each would add a byte to the job's stream.
_DECIMALS = 6
#: Logits of a prompt that are processed at a time.
_PART = 1 << 18


@dataclass(frozen=True, slots=True)
class Scores:
    """Log probabilities at one position."""

    chosen: float
    #: (token id, log probability) of the most likely tokens, in descending order, ties by id.
    top: tuple[tuple[int, float], ...]


def score(logits: Tensor, token_ids: Sequence[int], num_top: Sequence[int]) -> list[Scores]:
    """Score the drawn token and its alternatives for each row of the model's `logits`, float32 [R, V]."""
    num = min(max(num_top), logits.shape[-1])
    chosen = torch.tensor(token_ids, device=logits.device)[:, None]
    ids = torch.cat([chosen, best_ids(logits, num)], -1) if num else chosen
    values = logits.log_softmax(-1).gather(1, ids).double().cpu().numpy()
    rounded = np.nan_to_num(values.round(_DECIMALS) + 0.0, nan=LOWEST).clip(LOWEST, 0.0).tolist()
    return [
        Scores(row[0], tuple(zip(row_ids[1 : 1 + top], row[1 : 1 + top], strict=True)))
        for row, row_ids, top in zip(rounded, ids.tolist(), num_top, strict=True)
    ]


def score_prompt(logits: Tensor, token_ids: Sequence[int], num_top: int) -> list[PromptToken]:
    """Score the prompt tokens `token_ids`. Row i of `logits` [R, V] is at the position before token i."""
    step = max(1, _PART // logits.shape[-1])
    scored: list[PromptToken] = []
    for start in range(0, len(token_ids), step):
        part, ids = logits[start : start + step].float(), token_ids[start : start + step]
        scores = score(part, ids, [num_top] * len(ids))
        scored += [
            PromptToken(token_id, one.chosen, rank, one.top)
            for token_id, one, rank in zip(ids, scores, _ranks(part, ids), strict=True)
        ]
    return scored


def _ranks(logits: Tensor, token_ids: Sequence[int]) -> list[int]:
    """The rank of each token, starting at 1, in the order of `best_ids`."""
    chosen = torch.tensor(token_ids, device=logits.device)[:, None]
    ids = torch.arange(logits.shape[-1], device=logits.device)
    own = logits.gather(1, chosen)
    is_before = (logits > own) | ((logits == own) & (ids < chosen))
    ranks: list[int] = (is_before.sum(-1) + 1).tolist()
    return ranks

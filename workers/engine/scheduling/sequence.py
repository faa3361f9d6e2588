"""Sequence: one running generation inside the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.sampling import SamplingParams
from workers.engine.scheduling.drafter import Drafter

if TYPE_CHECKING:  # the scheduler, which plans with sequences, needs no torch
    from workers.engine.constraints.token_mask import TokenRule
    from workers.engine.sampling.logit_adjustments import LogitAdjustments


@dataclass(slots=True, eq=False)
class Sequence:
    """One choice of one request: its tokens, and how many of them have their keys and values in the cache.

    Mutable, and never seen outside of the engine.
    """

    request_id: str
    #: Which choice of the request this is.
    choice: int
    sampling: SamplingParams
    #: The prompt, and every token drawn so far.
    token_ids: list[int]
    num_prompt_tokens: int
    #: What these tokens and the parameters do to the logits; None: nothing.
    adjustments: LogitAdjustments | None = None
    #: Which tokens it may draw, by its grammar and its lists; None: any.
    matcher: TokenRule | None = None
    #: What its spans in the PrefixCache begin with; None: it neither takes nor leaves any.
    prefix_root: bytes | None = None
    #: How many tokens of the prompt had the logits behind them told of; None: nothing is told of it.
    num_prompt_scored: int | None = None
    #: Guesses how it goes on; None: nobody does.
    drafter: Drafter | None = None
    #: How many of `token_ids` are in the cache.
    num_computed: int = 0
    #: The place in the cache; None while waiting.
    slot: int | None = None
    #: Prompt tokens found in the prefix cache when it was first admitted; None before.
    num_cached: int | None = None

    @property
    def prompt_index(self) -> int:
        """Which prompt of its request it continues."""
        return self.choice // self.sampling.n

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def max_len(self) -> int:
        """Prompt and output together never grow longer than this."""
        return self.num_prompt_tokens + self.sampling.max_tokens

    @property
    def num_uncomputed(self) -> int:
        """1 while decoding, more while the prompt is being read."""
        return len(self.token_ids) - self.num_computed

    @property
    def position(self) -> int:
        """Position of the token that is drawn next, counted from the first of the output."""
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether the logits behind tokens of the prompt are still wanted; the last one's are drawn from."""
        return self.num_prompt_scored is not None and self.num_prompt_scored < self.num_prompt_tokens - 1

    @property
    def is_complete(self) -> bool:
        """Whether a grammar allows nothing to follow."""
        return self.matcher is not None and self.matcher.is_complete

    def draft(self, most: int, least_chance: float) -> tuple[int, ...]:
        """What may follow its tokens: at most so many, each at least so likely, and never the last of the
        output."""
        most = min(most, self.max_len - self.num_tokens - 1)
        if self.drafter is None or most <= 0:
            return ()
        return self.drafter.draft(self.token_ids, most, least_chance)

    def append(self, token_id: int) -> None:
        """Take the token that was drawn. Raises RequestError where the answer cannot go on with it."""
        if self.matcher is not None:
            self.matcher.push(token_id)
        self.token_ids.append(token_id)
        if self.adjustments is not None:
            self.adjustments.push(token_id)

"""Sequence: the state of one choice in the engine."""

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
    """One choice of one request: its tokens, and how many of them are in the KV cache.

    Mutable. It never leaves the engine.
    """

    request_id: str
    #: Which choice of the request this is.
    choice: int
    sampling: SamplingParams
    #: The prompt, and all tokens drawn so far.
    token_ids: list[int]
    num_prompt_tokens: int
    #: Penalties and biases, which depend on these tokens. None: there are none.
    adjustments: LogitAdjustments | None = None
    #: The tokens that may be drawn, by the grammar and the lists of the request. None: any.
    matcher: TokenRule | None = None
    #: Root of its spans in the PrefixCache. None: it does not use the cache.
    prefix_root: bytes | None = None
    #: Its rotary positions are those of a sequence of at least this many tokens, see RotaryRule.
    rotary_base: int = 0
    #: Distinguishes the keys of sequences whose rotary positions differ, in the PrefixCache.
    prefix_salt: bytes = b""
    #: After how many prompt tokens the log probabilities of the next one are known. None: not requested.
    num_prompt_scored: int | None = None
    #: Guesses the next tokens. None: no guesses.
    drafter: Drafter | None = None
    #: How many of `token_ids` are in the KV cache.
    num_computed: int = 0
    #: The slot in the KV cache. None while waiting.
    slot: int | None = None
    #: Prompt tokens found in the prefix cache when it was first admitted. None: not admitted yet.
    num_cached: int | None = None

    @property
    def prompt_index(self) -> int:
        """Index of its prompt in the request."""
        return self.choice // self.sampling.n

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def max_len(self) -> int:
        """Maximum length of prompt and output together."""
        return self.num_prompt_tokens + self.sampling.max_tokens

    @property
    def num_uncomputed(self) -> int:
        """1 while decoding, more while the prompt is being processed."""
        return len(self.token_ids) - self.num_computed

    @property
    def position(self) -> int:
        """Position in the output of the token that is drawn next."""
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether log probabilities of prompt tokens are still to be computed."""
        return self.num_prompt_scored is not None and self.num_prompt_scored < self.num_prompt_tokens - 1

    @property
    def is_complete(self) -> bool:
        """Whether the grammar allows no further token."""
        return self.matcher is not None and self.matcher.is_complete

    def draft(self, most: int, least_chance: float) -> tuple[int, ...]:
        """Guess the next tokens: up to `most`, each with at least `least_chance`, and never the last of the output."""
        most = min(most, self.max_len - self.num_tokens - 1)
        if self.drafter is None or most <= 0:
            return ()
        return self.drafter.draft(self.token_ids, most, least_chance)

    def append(self, token_id: int) -> None:
        """Add the drawn token. Raises RequestError if the answer cannot continue with it."""
        if self.matcher is not None:
            self.matcher.push(token_id)
        self.token_ids.append(token_id)
        if self.adjustments is not None:
            self.adjustments.push(token_id)

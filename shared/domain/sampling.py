"""SamplingParams: how the tokens of a job are drawn."""

from __future__ import annotations

import msgspec

from shared.domain.constraint import Constraint


class SamplingParams(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """The sampling parameters of one job, with all defaults filled in and the seed drawn.

    A token depends only on the logits, these parameters, the choice and the position. So every worker draws the same
    token.
    """

    max_tokens: int
    #: Seed of all draws, 0 <= seed < 2**63.
    seed: int
    #: 0 is greedy decoding.
    temperature: float = 1.0
    #: Nucleus sampling: draw from the smallest set of candidates whose probability reaches this, 0 < top_p <= 1.
    top_p: float = 1.0
    #: Draw only from this many of the most likely candidates. None: all.
    top_k: int | None = None
    #: Draw only candidates at least this fraction as likely as the most likely one, 0 <= min_p <= 1.
    min_p: float = 0.0
    #: Above 1, tokens of the prompt and the output become less likely (https://arxiv.org/abs/1909.05858). 1 is neutral.
    repetition_penalty: float = 1.0
    #: Subtracted from the logit of each token that occurs in the output.
    presence_penalty: float = 0.0
    #: Subtracted from the logit of a token for each time it occurs in the output.
    frequency_penalty: float = 0.0
    #: (token id, value added to its logit), by ascending id.
    logit_bias: tuple[tuple[int, float], ...] = ()
    #: The only tokens that may be drawn, by ascending id. Empty: all.
    allowed_token_ids: tuple[int, ...] = ()
    #: A token that would complete one of these within the output is never drawn.
    bad_words: tuple[tuple[int, ...], ...] = ()
    #: Until a choice has this many tokens, no stop token is drawn and no stop string ends it.
    min_tokens: int = 0
    #: Number of alternatives returned with each token's own log probability. None: no log probabilities.
    logprobs: int | None = None
    #: Strings that end a choice.
    stop: tuple[str, ...] = ()
    #: Whether the text includes the stop string or token that ends it.
    includes_stop: bool = False
    #: Whether special tokens appear in the text.
    shows_special: bool = False
    #: Number of choices of each prompt, each drawn separately.
    n: int = 1
    #: The form that the text must have. None: any.
    constraint: Constraint | None = None
    #: The same as `logprobs`, for the tokens of the prompt.
    prompt_logprobs: int | None = None
    #: Whether only the prompt matters. The one token that is drawn has no text and no log probability.
    prompt_only: bool = False

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0

    def wants_prompt_logprobs(self, choice: int) -> bool:
        """Whether this choice returns the `prompt_logprobs`. Only the first choice of each prompt does."""
        return self.prompt_logprobs is not None and choice % self.n == 0

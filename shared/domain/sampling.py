"""SamplingParams: how the tokens of a request are drawn."""

from __future__ import annotations

import msgspec

from shared.domain.constraint import Constraint


class SamplingParams(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """The effective sampling of one job: every default is filled in, the seed is drawn.

    A token is a function of (logits, these parameters, choice, position) and of nothing else, so any
    worker draws what another one would have drawn.
    """

    max_tokens: int
    #: Seed of every draw, 0 <= seed < 2**63.
    seed: int
    #: 0 is greedy decoding.
    temperature: float = 1.0
    #: Nucleus sampling: the smallest set of candidates whose probability reaches this, 0 < top_p <= 1.
    top_p: float = 1.0
    #: Only this many likeliest candidates; None: all.
    top_k: int | None = None
    #: Only candidates at least this share as likely as the likeliest, 0 <= min_p <= 1.
    min_p: float = 0.0
    #: Above 1, logits of tokens of the prompt and the output are moved away from being drawn
    #: (https://arxiv.org/abs/1909.05858); 1 is none.
    repetition_penalty: float = 1.0
    #: Taken from the logit of each token that the output holds.
    presence_penalty: float = 0.0
    #: Taken from the logit of a token for each time that the output holds it.
    frequency_penalty: float = 0.0
    #: Added to logits, as (token id, bias) by ascending id.
    logit_bias: tuple[tuple[int, float], ...] = ()
    #: The only tokens that are drawn, by ascending id; empty: all.
    allowed_token_ids: tuple[int, ...] = ()
    #: No token is drawn that would complete one of these within the output.
    bad_words: tuple[tuple[int, ...], ...] = ()
    #: Before this many tokens no stop token is drawn and no stop string ends the choice.
    min_tokens: int = 0
    #: How many alternatives are told beside each token's own log probability; None: tell nothing.
    logprobs: int | None = None
    #: Strings that end a choice; the text never contains them but for the next field.
    stop: tuple[str, ...] = ()
    #: The text ends behind the stop string or token that ends it, instead of before.
    includes_stop: bool = False
    #: Special tokens are text, as they are written.
    shows_special: bool = False
    #: Number of choices of each prompt, each with draws of its own.
    n: int = 1
    #: What the text has to be; None: anything.
    constraint: Constraint | None = None
    #: The same as `logprobs` for the tokens of the prompt.
    prompt_logprobs: int | None = None

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0

    def wants_prompt_logprobs(self, choice: int) -> bool:
        """Whether this choice tells the `prompt_logprobs`: the first of each prompt does, for all of the prompt's."""
        return self.prompt_logprobs is not None and choice % self.n == 0

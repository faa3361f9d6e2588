"""Sampling: how the tokens of a request are drawn, in the words of OpenAI's endpoints.

OpenAI's names (https://platform.openai.com/docs/api-reference/chat/create) and vLLM's
(https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html), which the official clients send through
`extra_body`. The descriptions appear in docs/compatibility.md and /openapi.json.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from api.http.validation import FieldFault, Schema
from shared.domain.request import SamplingOptions

MAX_CHOICES = 16
#: Maximum of `n` times `max_tokens`.
MAX_OUTPUT_TOKENS = 2**18
_MAX_BIASES = 1024
_MAX_STOP_TOKENS = 128
_MAX_ALLOWED = 16_384
_MAX_BAD_WORDS = 128
INT32 = 2**31
_INT64 = 2**63
#: Seeds have 63 bits.
_SEED_BITS = 63
_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,9}")

TokenId = Annotated[int, Field(ge=0, lt=INT32)]
_StopString = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
_StopStrings = Annotated[list[_StopString], Field(max_length=4)]
_Biases = Annotated[
    dict[str, Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=_MAX_BIASES),
]
_BadWord = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Limit = Annotated[int, Field(ge=1, lt=INT32)] | None


def _as_list(value: Any) -> Any:
    if value == "":
        raise ValueError("it must not be empty")
    return [value] if isinstance(value, str) else value


class VllmSampling(Schema):
    """vLLM's names."""

    top_k: Annotated[int, Field(ge=-1, lt=INT32)] | None = Field(
        None, description="Sample from the `top_k` most likely tokens. 0 and -1: from all."
    )
    min_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Minimum probability of a token, relative to the most likely one."
    )
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = Field(
        None, description="Values above 1 make tokens of the prompt and of the answer less likely."
    )
    min_tokens: Annotated[int, Field(ge=0, lt=INT32)] | None = Field(
        None, description="Minimum number of tokens before anything ends the answer; at most `max_tokens`."
    )
    stop_token_ids: Annotated[list[TokenId], Field(max_length=_MAX_STOP_TOKENS)] | None = Field(
        None, description="Tokens that end the answer, in addition to the model's own."
    )
    ignore_eos: bool | None = Field(
        None, description="Do not end at the model's own end tokens. `stop_token_ids` still apply."
    )
    prompt_logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None,
        description="Log probabilities of the prompt, with this many alternatives for each token; not with `stream`.",
    )
    include_stop_str_in_output: bool | None = Field(
        None, description="Include the stop string or stop token that ended the answer in its text."
    )
    skip_special_tokens: bool | None = Field(None, description="False: show special tokens in the text.")
    allowed_token_ids: Annotated[list[TokenId], Field(min_length=1, max_length=_MAX_ALLOWED)] | None = Field(
        None, description="The only tokens that may be generated, including those that end the answer."
    )
    bad_words: Annotated[list[_BadWord], Field(max_length=_MAX_BAD_WORDS)] | None = Field(
        None, description="Words that must not be generated; see below."
    )


class Sampling(VllmSampling):
    """OpenAI's names. Log probabilities are asked for in each endpoint's own way."""

    max_tokens: Limit = Field(
        None,
        description="Maximum number of tokens of the answer. Prompt and answer must fit into the context.",
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        None, description="Sampling temperature. 0: greedy."
    )
    top_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None,
        description="Nucleus sampling: the smallest set of tokens with this total probability. 0: greedy.",
    )
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = Field(
        None, description="The same request with the same seed has the same answer."
    )
    stop: Annotated[_StopStrings, BeforeValidator(_as_list, str | _StopStrings)] | None = Field(
        None, description="Strings that end the answer. Its text ends before them."
    )
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = Field(
        None, description="Subtracted from the logit of each token that the answer contains."
    )
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = Field(
        None, description="Subtracted for each time that the answer contains the token."
    )
    logit_bias: _Biases | None = Field(
        None, description="Maps token ids (decimal) to values that are added to their logits."
    )
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = Field(
        1, description=f"Number of choices. `n` times `max_tokens` is limited to {MAX_OUTPUT_TOKENS}."
    )

    @field_validator("logit_bias")
    @classmethod
    def _names_tokens(cls, biases: dict[str, float] | None) -> dict[str, float] | None:
        for token_id in biases or ():
            if not _TOKEN_ID.fullmatch(token_id):
                raise FieldFault(f"logit_bias.{token_id}", "names must be token ids in decimal digits")
        return biases

    @model_validator(mode="after")
    def _fits_together(self) -> Sampling:
        limit = self.token_limit
        if limit is not None and (self.min_tokens or 0) > limit:
            raise FieldFault("min_tokens", f"it is greater than the token limit, {limit}")
        if limit is not None and self.n > 1 and self.n * limit > MAX_OUTPUT_TOKENS:
            raise FieldFault("n", f"{self.n} choices of {limit} tokens are more than {MAX_OUTPUT_TOKENS}")
        return self

    @property
    def token_limit(self) -> int | None:
        """Maximum number of tokens of each choice."""
        return self.max_tokens

    @property
    def num_logprobs(self) -> int | None:
        """Number of alternatives returned with each token's log probability. None: no log probabilities."""
        return None

    def sampling(self) -> SamplingOptions:
        """The options. What means the same is the same in them."""
        is_greedy = self.top_p == 0
        return SamplingOptions(
            temperature=0.0 if is_greedy else self.temperature,
            top_p=None if is_greedy else self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty or 0.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            seed=None if self.seed is None else self.seed % 2**_SEED_BITS,
            max_tokens=self.token_limit,
            min_tokens=self.min_tokens or 0,
            stop=tuple(self.stop or ()),
            stop_token_ids=tuple(self.stop_token_ids or ()),
            ignore_eos=bool(self.ignore_eos),
            include_stop=bool(self.include_stop_str_in_output),
            skip_special_tokens=self.skip_special_tokens is not False,
            logit_bias={int(token_id): bias for token_id, bias in (self.logit_bias or {}).items()},
            allowed_token_ids=tuple(self.allowed_token_ids or ()),
            bad_words=tuple(self.bad_words or ()),
            logprobs=self.num_logprobs,
            prompt_logprobs=self.prompt_logprobs,
        )

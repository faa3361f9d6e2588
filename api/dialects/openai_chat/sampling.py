"""Sampling: how the tokens of a request are drawn, as clients say it.

OpenAI's names (https://platform.openai.com/docs/api-reference/chat/create), and vLLM's beside them, where the
official clients put what their `extra_body` holds
(https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html). The descriptions are shown in
docs/compatibility.md and /openapi.json.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from api.http.validation import FieldFault, Schema

MAX_CHOICES = 16
#: Tokens that the choices of one request may have together, where `max_tokens` is given.
MAX_OUTPUT_TOKENS = 2**18
_MAX_BIASES = 1024
_MAX_STOP_TOKENS = 128
_MAX_ALLOWED = 16_384
_MAX_BAD_WORDS = 128
_INT32 = 2**31
_INT64 = 2**63
#: Largest seed: 63 bits, as SamplingParams has them.
_SEED_BITS = 63
_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,9}")

TokenId = Annotated[int, Field(ge=0, lt=_INT32)]
_StopString = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
_StopStrings = Annotated[list[_StopString], Field(max_length=4)]
_Biases = Annotated[
    dict[str, Annotated[float, Field(ge=-100, le=100)]],
    Field(max_length=_MAX_BIASES),
]
_BadWord = Annotated[str, StringConstraints(min_length=1, max_length=256)]
_Limit = Annotated[int, Field(ge=1, lt=_INT32)] | None


def _as_list(value: Any) -> Any:
    if value == "":
        raise ValueError("it must not be empty")
    return [value] if isinstance(value, str) else value


class VllmSampling(Schema):
    """vLLM's names."""

    top_k: Annotated[int, Field(ge=-1, lt=_INT32)] | None = Field(
        None, description="Only the so many likeliest tokens; 0 and -1: all."
    )
    min_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="Only tokens at least this share as likely as the likeliest."
    )
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = Field(
        None, description="Above 1: tokens of the prompt and of the answer become less likely."
    )
    min_tokens: Annotated[int, Field(ge=0, lt=_INT32)] | None = Field(
        None, description="Nothing ends the answer before; at most `max_tokens`."
    )
    stop_token_ids: Annotated[list[TokenId], Field(max_length=_MAX_STOP_TOKENS)] | None = Field(
        None, description="End the answer, beside the model's own; each must be in its vocabulary."
    )
    ignore_eos: bool | None = Field(
        None, description="The model's own end tokens do not end the answer; `stop_token_ids` still do."
    )
    prompt_logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="Log probabilities of the prompt, so many likeliest beside each; without `stream`."
    )
    include_stop_str_in_output: bool | None = Field(
        None, description="The text ends behind the stop string or token that ends it, not before."
    )
    skip_special_tokens: bool | None = Field(
        None, description="False: special tokens are shown as they are written."
    )
    allowed_token_ids: Annotated[list[TokenId], Field(min_length=1, max_length=_MAX_ALLOWED)] | None = Field(
        None, description="No other token is drawn, not even one that ends the answer."
    )
    bad_words: Annotated[list[_BadWord], Field(max_length=_MAX_BAD_WORDS)] | None = Field(
        None, description="No token is drawn that completes one of them; see below."
    )


class Sampling(VllmSampling):
    """OpenAI's names."""

    max_tokens: _Limit = Field(None, description="Prompt and answer must fit into the context.")
    max_completion_tokens: _Limit = Field(None, description="The newer name of `max_tokens`; goes before it.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(None, description="0: greedy.")
    top_p: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="The least set of tokens that reaches this probability."
    )
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = Field(
        None, description="The same request with the same seed has the same answer."
    )
    stop: Annotated[_StopStrings, BeforeValidator(_as_list, str | _StopStrings)] | None = Field(
        None, description="The text ends before the first of them."
    )
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = Field(
        None, description="Taken from the logit of each token that the answer holds."
    )
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = Field(
        None, description="The same, for each time that the answer holds it."
    )
    logit_bias: _Biases | None = Field(
        None, description="Token id (decimal, in the model's vocabulary) to what is added to its logit."
    )
    logprobs: bool | None = Field(
        None, description="Tell each token's log probability under the model alone."
    )
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None, description="So many likeliest tokens beside each; needs `logprobs`."
    )
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = Field(
        1, description=f"Choices. `n` times `max_tokens` may be {MAX_OUTPUT_TOKENS}."
    )

    @field_validator("logit_bias")
    @classmethod
    def _names_tokens(cls, biases: dict[str, float] | None) -> dict[str, float] | None:
        for token_id in biases or ():
            if not _TOKEN_ID.fullmatch(token_id):
                raise FieldFault(f"logit_bias.{token_id}", "a name must be a token id in decimal digits")
        return biases

    @model_validator(mode="after")
    def _fits_together(self) -> Sampling:
        if self.top_logprobs and not self.logprobs:
            raise FieldFault("top_logprobs", "it is only allowed with 'logprobs': true")
        limit = self.token_limit
        if limit is not None and (self.min_tokens or 0) > limit:
            raise FieldFault("min_tokens", f"it is greater than the token limit, {limit}")
        if limit is not None and self.n > 1 and self.n * limit > MAX_OUTPUT_TOKENS:
            raise FieldFault("n", f"{self.n} choices of {limit} tokens are more than {MAX_OUTPUT_TOKENS}")
        return self

    @property
    def token_limit(self) -> int | None:
        """Tokens of each choice, at most."""
        return self.max_completion_tokens or self.max_tokens

    def sampling_body(self) -> dict[str, Any]:
        """What is stored in the job of it: what was given, each thing under one name."""
        body = {
            name: getattr(self, name) for name in Sampling.model_fields if name != "max_completion_tokens"
        }
        body["max_tokens"] = self.token_limit
        body["seed"] = None if self.seed is None else self.seed % 2**_SEED_BITS
        return {name: value for name, value in body.items() if value is not None}

"""CompletionRequest: the body of `/v1/completions` (https://platform.openai.com/docs/api-reference/completions)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec.structs import replace
from pydantic import Field, model_validator

from api.dialects.openai_completions.prompt import Prompts, prompt_of, read_prompts
from api.dialects.openai_completions.unsupported import UNSUPPORTED
from api.dialects.parameters.metadata import Metadata
from api.dialects.parameters.sampling import INT32, MAX_CHOICES, MAX_OUTPUT_TOKENS, Sampling
from api.dialects.parameters.stream_options import Streamed, drop_noop_stream_options
from api.dialects.parameters.structured_outputs import Structure, drop_noop_structure
from api.dialects.parameters.without_effect import VllmWithoutEffect
from api.dialects.unsupported import drop_noop_fields
from api.http.validation import FieldFault, validate
from shared.domain.request import MAX_CHOICES as MAX_JOB_CHOICES
from shared.domain.request import GenerationRequest, SamplingOptions

_DEFAULT_TOKENS = 16
_MAX_SUFFIX = 2**20


class WithoutEffect(VllmWithoutEffect):
    """Fields that are accepted and change nothing."""

    user: Annotated[str, Field(max_length=512)] | None = Field(None, description="Identifies the end user.")


class CompletionRequest(WithoutEffect, Streamed, Structure, Sampling):
    """A completion, checked."""

    model: Annotated[str, Field(min_length=1)] = Field(description="One of `/v1/models`.")
    prompt: Prompts = Field(
        description="What the model continues: a string, token ids, or an array of either. Choices are numbered"
        " prompt by prompt."
    )
    max_tokens: Annotated[int, Field(ge=0, lt=INT32)] = Field(
        _DEFAULT_TOKENS, description="Maximum number of tokens of each choice. 0: only look at the prompt."
    )
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = Field(
        None,
        description="Return the log probability of each token, and this many of the most likely ones. With `echo`, the"
        " prompt's tokens too.",
    )
    echo: bool = Field(False, description="Return the prompt before each choice's text.")
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = Field(
        None,
        description="Generate this many choices of each prompt and return the `n` with the highest mean log probability"
        " of their tokens; not with `stream`.",
    )
    suffix: Annotated[str, Field(max_length=_MAX_SUFFIX)] | None = Field(
        None, description="Text after the insertion, for models with fill-in-the-middle tokens."
    )
    metadata: Metadata | None = Field(
        None, description="Stored with the job. Names of up to 64 characters, values of up to 512."
    )

    @property
    def num_logprobs(self) -> int | None:
        return (
            0
            if self.logprobs is None and self.best_of is not None and self.best_of > self.n
            else self.logprobs
        )

    @property
    def num_drawn(self) -> int:
        """Number of choices of each prompt that are generated."""
        return max(self.n, self.best_of or 0)

    @model_validator(mode="after")
    def _can_be_done(self) -> CompletionRequest:
        if self.best_of is not None and self.best_of < self.n:
            raise FieldFault("best_of", f"it is less than 'n', {self.n}")
        if self.stream:
            self._can_be_streamed()
        if self.suffix is not None and not all(isinstance(prompt, str) for prompt in self.prompt):
            raise FieldFault("suffix", "it needs prompts that are text")
        num = len(self.prompt) * self.num_drawn
        if num > MAX_JOB_CHOICES:
            what = f"{len(self.prompt)} prompts with {self.num_drawn} choices each are {num} choices"
            raise FieldFault("prompt", f"{what}, and the maximum is {MAX_JOB_CHOICES}")
        if num > 1 and num * self.max_tokens > MAX_OUTPUT_TOKENS:
            raise FieldFault(
                "max_tokens", f"{num} choices of {self.max_tokens} tokens are more than {MAX_OUTPUT_TOKENS}"
            )
        return self

    def _can_be_streamed(self) -> None:
        if self.num_drawn > self.n:
            raise FieldFault("best_of", "with 'stream': true, it must be equal to 'n'")
        if self.prompt_logprobs is not None:
            raise FieldFault("prompt_logprobs", "it is only allowed without 'stream': true")
        if self.echo and self.logprobs is not None:
            raise FieldFault("logprobs", "with 'echo', it is only allowed without 'stream': true")

    def request(self) -> GenerationRequest:
        """What is to be generated."""
        prompts = tuple([prompt_of(prompt, self.suffix) for prompt in self.prompt])
        return GenerationRequest(prompts, self.num_drawn, self.sampling(), self.constraint())

    def sampling(self) -> SamplingOptions:
        options = super().sampling()
        scored = [
            num for num in (self.prompt_logprobs, self.logprobs if self.echo else None) if num is not None
        ]
        return replace(
            options,
            echo=self.echo,
            prompt_only=self.max_tokens == 0,
            max_tokens=max(1, self.max_tokens),
            prompt_logprobs=max(scored, default=None),
        )

    def view(self) -> dict[str, Any]:
        view = super().view()
        if self.num_drawn > self.n:
            view["best"] = self.n
        shown = {"logprobs": self.logprobs, "prompt_logprobs": self.prompt_logprobs}
        view |= {name: num for name, num in shown.items() if num is not None}
        view["num_prompts"] = len(self.prompt)
        return view | ({"echo": True} if self.echo else {})


def read_completion(
    fields: dict[str, Any], *, prefix: str = "", ignored: list[str] | None = None
) -> CompletionRequest:
    """A completion from its JSON. A field that is null counts as not given. Raises RequestError (400).

    Unknown fields are dropped; their paths are added to `ignored`.
    """
    fields = drop_noop_fields(fields, CompletionRequest, UNSUPPORTED, prefix)
    if "prompt" in fields:
        fields["prompt"] = read_prompts(fields["prompt"], f"{prefix}prompt")
    drop_noop_stream_options(fields, prefix)
    drop_noop_structure(fields, prefix)
    return validate(CompletionRequest, fields, prefix=prefix, ignored=[] if ignored is None else ignored)

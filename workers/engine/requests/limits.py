"""RequestLimits: what a request must be for a model to take it up."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain

from shared.domain.job import ResolvedRequest
from shared.errors import invalid_request


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """The bounds of one model: what lies beyond them would harm the requests beside it."""

    #: Prompt and output of one sequence, in tokens.
    max_model_len: int
    #: Token ids are below this.
    vocab_size: int

    def check(self, request: ResolvedRequest) -> None:
        """Raises RequestError, with the field at fault."""
        self._check_length(len(request.prompt_token_ids), request.sampling.max_tokens)
        self._check_ids("messages", request.prompt_token_ids)
        self._check_ids("stop_token_ids", request.stop_token_ids)
        self._check_ids("logit_bias", (token_id for token_id, _ in request.sampling.logit_bias))
        self._check_ids("allowed_token_ids", request.sampling.allowed_token_ids)
        self._check_ids("bad_words", chain.from_iterable(request.sampling.bad_words))

    def _check_length(self, num_prompt: int, max_tokens: int) -> None:
        if num_prompt == 0:
            raise invalid_request("the prompt is empty", param="messages")
        if num_prompt + max_tokens > self.max_model_len:
            raise invalid_request(
                f"the prompt has {num_prompt} tokens and up to {max_tokens} are to follow, "
                f"but this model's maximum context length is {self.max_model_len} tokens",
                param="messages",
                code="context_length_exceeded",
            )

    def _check_ids(self, param: str, token_ids: Iterable[int]) -> None:
        unknown = next((i for i in token_ids if not 0 <= i < self.vocab_size), None)
        if unknown is not None:
            raise invalid_request(
                f"{param} has the token id {unknown}, but this model's ids are 0 to {self.vocab_size - 1}",
                param=param,
            )

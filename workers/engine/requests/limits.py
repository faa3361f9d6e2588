"""RequestLimits: checks that a model can serve a request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shared.errors import RequestError, invalid_request
from workers.engine.resolved_request import ResolvedRequest


def too_long(max_model_len: int, what: str, param: str | None) -> RequestError:
    """Return the error for a request that does not fit into the context. `what`: the end of the message."""
    return invalid_request(
        f"This model's maximum context length is {max_model_len} tokens. However, {what}",
        param=param,
        code="context_length_exceeded",
    )


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of the engine. A request outside of them would break other requests.

    Resolvers already refuse such requests, with better messages. These checks are for requests that another worker
    resolved, whose context may be longer.
    """

    #: Maximum length of a sequence's prompt and output, in tokens.
    max_model_len: int
    #: All token ids are below this.
    vocab_size: int

    def check(self, request: ResolvedRequest) -> None:
        """Raises RequestError."""
        max_tokens = request.sampling.max_tokens
        for prompt in request.prompts:
            if not prompt:
                raise invalid_request("The prompt is empty.")
            if len(prompt) + max_tokens > self.max_model_len:
                what = f"the prompt has {len(prompt)} tokens and {max_tokens} are requested."
                raise too_long(self.max_model_len, what, None)
        unknown = next((i for i in _token_ids(request) if not 0 <= i < self.vocab_size), None)
        if unknown is not None:
            raise invalid_request(
                f"This model has no token {unknown}: its token ids are 0 to {self.vocab_size - 1}."
            )


def _token_ids(request: ResolvedRequest) -> Iterator[int]:
    """Yield all token ids of the request."""
    sampling = request.sampling
    for token_ids in (
        *request.prompts,
        request.stop_token_ids,
        sampling.allowed_token_ids,
        *sampling.bad_words,
    ):
        yield from token_ids
    for token_id, _ in sampling.logit_bias:
        yield token_id

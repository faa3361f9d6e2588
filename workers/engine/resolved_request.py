"""ResolvedRequest: what a request means to the local engine, with nothing left to decide."""

from __future__ import annotations

import msgspec

from shared.domain.sampling import SamplingParams
from shared.errors import DecodeError


class ResolvedRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Stored at the first claim and used by all later ones, so that no other worker decides anew."""

    #: Token ids of each prompt.
    prompts: tuple[tuple[int, ...], ...]
    sampling: SamplingParams
    #: Tokens that end a choice (end of sequence and turn, and what the client named).
    stop_token_ids: tuple[int, ...]
    #: Fingerprint of the model's weights and tokenizer.
    model_revision: str
    #: How the model's output is split into parts: name and version of a splitter; None: all of it is text.
    output_format: str | None = None
    #: Those of `stop_token_ids` that the client named: the finish says which one ended a choice.
    named_stop_token_ids: tuple[int, ...] = ()

    @property
    def num_choices(self) -> int:
        return len(self.prompts) * self.sampling.n

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of all prompts together."""
        return sum(map(len, self.prompts))

    def prompt_of(self, choice: int) -> tuple[int, ...]:
        """The prompt that a choice continues."""
        return self.prompts[choice // self.sampling.n]

    def encode(self) -> str:
        return _ENCODER.encode(self).decode()

    @classmethod
    def decode(cls, raw: str) -> ResolvedRequest:
        """The inverse of `encode`. Raises DecodeError, also for a sampling parameter that is not known here: other
        tokens would be drawn without it."""
        try:
            return _DECODER.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DecodeError("resolved request", raw) from error


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(ResolvedRequest)

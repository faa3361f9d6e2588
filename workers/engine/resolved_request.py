"""ResolvedRequest: a request for the local engine, with all parameters filled in."""

from __future__ import annotations

import msgspec

from shared.domain.sampling import SamplingParams
from shared.errors import DecodeError


class ResolvedRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """Stored at the first claim and used by all later claims, so that every worker uses the same values."""

    #: Token ids of each prompt.
    prompts: tuple[tuple[int, ...], ...]
    sampling: SamplingParams
    #: Tokens that end a choice: end of sequence, end of turn, and those that the client named.
    stop_token_ids: tuple[int, ...]
    #: Fingerprint of the model's weights and tokenizer.
    model_revision: str
    #: Name and version of the splitter for the model's output. None: all output is text.
    output_format: str | None = None
    #: The stop tokens that the client named. If one of them ends a choice, the finish reports which.
    named_stop_token_ids: tuple[int, ...] = ()
    #: Text of each prompt, with which the text of its choices begins. Empty: it does not begin with the prompt.
    echo: tuple[str, ...] = ()
    #: Whether the choices continue the text of their prompt. Otherwise each is a text of its own.
    continues_text: bool = False

    @property
    def num_choices(self) -> int:
        return len(self.prompts) * self.sampling.n

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of all prompts together."""
        return sum(map(len, self.prompts))

    def prompt_of(self, choice: int) -> tuple[int, ...]:
        """Return the prompt of a choice."""
        return self.prompts[choice // self.sampling.n]

    def echo_of(self, choice: int) -> str | None:
        """Return the text with which a choice begins, if any."""
        return self.echo[choice // self.sampling.n] if self.echo else None

    def encode(self) -> str:
        return _ENCODER.encode(self).decode()

    @classmethod
    def decode(cls, raw: str) -> ResolvedRequest:
        """The inverse of `encode`.

        Raises DecodeError, also for an unknown sampling parameter, because ignoring it would change the drawn tokens.
        """
        try:
            return _DECODER.decode(raw)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise DecodeError("resolved request", raw) from error


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(ResolvedRequest)

"""GenerationRequest: what a client asks for, independent of the API dialect.

A dialect parses an HTTP body into it, the job stores it, and a worker's backend resolves it. Only the API sees HTTP
bodies.
"""

from __future__ import annotations

from typing import Any

import msgspec

from shared.domain.constraint import Constraint
from shared.errors import DecodeError

#: The version of stored requests that this code reads. A request states in `needs` the version that supports all of
#: its fields. A worker skips requests of a version above its own. Raise the version with each new field that changes
#: answers, and list the field in `_SINCE`.
READER_VERSION = 2
#: (class, field) -> the version that introduced the field. Fields of version 1 are not listed.
_SINCE = {
    ("TextPrompt", "suffix"): 2,
    ("SamplingOptions", "echo"): 2,
    ("SamplingOptions", "prompt_only"): 2,
}

#: Maximum number of choices of one job, over all of its prompts.
MAX_CHOICES = 64


class _Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """Stored as a JSON object. Fields with their default value are omitted."""


class ChatMessage(_Record, frozen=True):
    """One message of a conversation."""

    role: str
    content: str
    #: The participant's name, for templates that use it.
    name: str | None = None


class ChatPrompt(_Record, frozen=True, tag_field="kind", tag="chat"):
    """A conversation, rendered by the model's chat template."""

    messages: tuple[ChatMessage, ...]
    #: Whether the prompt ends with the start of the assistant's next message.
    add_generation_prompt: bool = True
    #: Whether the model continues the last message. Cannot be combined with `add_generation_prompt`.
    continue_final_message: bool = False
    #: How much the model should reason, if its template uses `reasoning_effort`.
    reasoning_effort: str | None = None
    #: Further variables for the template.
    template_variables: dict[str, Any] = {}


class TextPrompt(_Record, frozen=True, tag_field="kind", tag="text"):
    """Text that the model continues."""

    text: str
    #: Text after the model's text, for models with fill-in-the-middle tokens.
    suffix: str | None = None


class TokenPrompt(_Record, frozen=True, tag_field="kind", tag="tokens"):
    """Token ids that the model continues."""

    token_ids: tuple[int, ...]


Prompt = ChatPrompt | TextPrompt | TokenPrompt


class SamplingOptions(_Record, frozen=True):
    """How tokens are to be drawn. None: the model's recommended default."""

    temperature: float | None = None
    top_p: float | None = None
    #: 0 and -1 mean all tokens.
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    #: 0 <= seed < 2**63. None: the worker draws one.
    seed: int | None = None
    #: Maximum number of tokens of each choice.
    max_tokens: int | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    include_stop: bool = False
    skip_special_tokens: bool = True
    #: Maps a token id to the value added to its logit.
    logit_bias: dict[int, float] = {}
    allowed_token_ids: tuple[int, ...] = ()
    bad_words: tuple[str, ...] = ()
    #: Number of alternatives returned with each token's own log probability. None: no log probabilities.
    logprobs: int | None = None
    #: The same for the tokens of the prompt.
    prompt_logprobs: int | None = None
    #: Whether each choice's text begins with the prompt.
    echo: bool = False
    #: Whether only the prompt matters. One token is drawn, and it has no text and no log probability.
    prompt_only: bool = False


class GenerationRequest(_Record, frozen=True):
    """What a job generates. Choice `prompt * n + k` is the k-th choice of a prompt."""

    prompts: tuple[Prompt, ...]
    #: Number of choices of each prompt.
    n: int = 1
    sampling: SamplingOptions = SamplingOptions()
    #: The form that the answer's text must have. None: any.
    constraint: Constraint | None = None

    @property
    def num_choices(self) -> int:
        return len(self.prompts) * self.n

    @property
    def needs(self) -> int:
        """The lowest READER_VERSION that supports all fields of this request."""
        return max(1, _needs(self))

    def encode(self) -> str:
        return _ENCODER.encode(self).decode()

    @classmethod
    def decode(cls, raw: str) -> GenerationRequest:
        """The inverse of `encode`. Raises DecodeError."""
        try:
            return _DECODER.decode(raw)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise DecodeError("request", raw) from error


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(GenerationRequest)


def _needs(value: object) -> int:
    if isinstance(value, tuple):
        return max(map(_needs, value), default=0)
    if not isinstance(value, msgspec.Struct):
        return 0
    name, found = type(value).__name__, 0
    for field in msgspec.structs.fields(value):
        given = getattr(value, field.name)
        if given != field.default:
            found = max(found, _SINCE.get((name, field.name), 0), _needs(given))
    return found

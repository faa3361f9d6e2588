"""Question: what a replica asks any worker of a model, outside of jobs, and the worker's answer."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from shared.domain.request import Prompt
from shared.errors import DecodeError, ErrorInfo, RequestError

T = TypeVar("T")


class Tokenize(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="tokenize"):
    """Which tokens a prompt has."""

    prompt: Prompt
    #: Whether a text gets the tokens that the tokenizer puts around it.
    adds_special_tokens: bool = True
    #: Whether the answer shows the written form of each token.
    shows_tokens: bool = False


class Detokenize(msgspec.Struct, frozen=True, tag_field="kind", tag="detokenize"):
    """Which text token ids make."""

    token_ids: tuple[int, ...]


Question = Tokenize | Detokenize


class Tokens(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="tokens"):
    """The answer to Tokenize."""

    token_ids: tuple[int, ...]
    #: Maximum number of tokens of prompt and answer together.
    max_model_len: int
    #: As they stand in the vocabulary. None: not asked for.
    tokens: tuple[str, ...] | None = None


class Detokenized(msgspec.Struct, frozen=True, tag_field="kind", tag="text"):
    """The answer to Detokenize."""

    text: str


class Refused(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="kind", tag="refused"):
    """The worker cannot answer."""

    message: str
    type: str = "server_error"
    param: str | None = None
    code: str | None = None
    status: int = 500

    @classmethod
    def of(cls, info: ErrorInfo) -> Refused:
        return cls(info.message, info.type, info.param, info.code, info.status)

    @property
    def error(self) -> RequestError:
        return RequestError(ErrorInfo(self.message, self.type, self.param, self.code, self.status))


Answer = Tokens | Detokenized | Refused


class Asked(msgspec.Struct, frozen=True):
    """A question on its way. Its text is decoded by itself, so that one of a newer version can be refused."""

    id: str
    question: msgspec.Raw

    @classmethod
    def of(cls, id_: str, question: Question) -> Asked:
        return cls(id_, msgspec.Raw(_ENCODER.encode(question)))

    def encode(self) -> str:
        return _ENCODER.encode(self).decode()

    @classmethod
    def decode(cls, raw: str) -> Asked:
        """The inverse of `encode`. Raises DecodeError."""
        return _decoded(_ASKED, raw, "asked question")

    def read(self) -> Question:
        """Return the question. Raises DecodeError."""
        return _decoded(_QUESTION, bytes(self.question), "question")


def encode_answer(answer: Answer) -> str:
    return _ENCODER.encode(answer).decode()


def decode_answer(raw: str) -> Answer:
    """The inverse of `encode_answer`. Raises DecodeError."""
    return _decoded(_ANSWER, raw, "answer")


_ENCODER = msgspec.json.Encoder()
_ASKED = msgspec.json.Decoder(Asked)
_QUESTION: msgspec.json.Decoder[Question] = msgspec.json.Decoder(Question)
_ANSWER: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)


def _decoded(decoder: msgspec.json.Decoder[T], raw: str | bytes, what: str) -> T:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise DecodeError(what, raw) from error

"""Resolver: what the body of a request means to one model."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from tokenizers import AddedToken
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from shared.errors import BatonError, RequestError, invalid_request
from shared.job import ResolvedRequest
from shared.sampling import SamplingParams
from workers.engine.loader import require_chat_template

_SEED_BITS = 63


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a model's authors recommend for requests that do not say it themselves."""

    temperature: float = 1.0
    top_p: float = 1.0


class Resolver:
    """Reads bodies of /v1/chat/completions that the API has checked.

    For one thread at a time: it has a tokenizer of its own, since those cannot be shared. What a user writes
    is text to the model, never a control token, whatever it looks like.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        *,
        model_revision: str,
        max_model_len: int,
        eos_token_ids: frozenset[int] = frozenset(),
        defaults: Defaults | None = None,
    ) -> None:
        """Takes the tokenizer over, and changes it. Raises MissingChatTemplate."""
        require_chat_template(tokenizer)
        self._prompter = _Prompter(tokenizer)
        self._model_revision = model_revision
        self._max_model_len = max_model_len
        self._stop_token_ids = tuple(sorted(eos_token_ids | self._prompter.end_token_ids))
        self._defaults = defaults or Defaults()

    @classmethod
    def from_directory(cls, path: Path, model_revision: str, max_model_len: int | None = None) -> Resolver:
        """For the model in a directory; `max_model_len` None: as long as the model was made for.

        Where the model's generation_config.json has a temperature or top_p, that is the default, as in vLLM;
        elsewhere it is 1, as in OpenAI's API. Raises BatonError.
        """
        try:
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
            config = AutoConfig.from_pretrained(path, trust_remote_code=False).get_text_config()
        except (ValueError, OSError, KeyError) as error:
            raise BatonError(f"{path} has no usable tokenizer or configuration: {error}") from error
        made_for = getattr(config, "max_position_embeddings", None)
        lengths = [length for length in (max_model_len, made_for) if length is not None]
        if not lengths:
            raise BatonError(f"{path} does not say how long a text may be: set max_model_len")
        generation = _generation_config(path)
        return cls(
            tokenizer,
            model_revision=model_revision,
            max_model_len=min(lengths),
            eos_token_ids=_ids(generation.get("eos_token_id")) or _ids(config.eos_token_id),
            defaults=Defaults(generation.get("temperature") or 1.0, generation.get("top_p") or 1.0),
        )

    def resolve(self, body: dict[str, Any], *, n: int) -> ResolvedRequest:
        """The prompt's tokens, and every parameter filled in. Raises RequestError."""
        text = self._prompter.render(body["messages"])
        if len(text) > self._max_model_len * self._prompter.longest_token:
            # Known without the tokenizer, which would be at it for seconds.
            raise self._too_long(f"your messages have {len(text)} characters.")
        prompt = self._prompter.encode(text)
        temperature, top_p = body.get("temperature"), body.get("top_p")
        seed = body.get("seed")
        sampling = SamplingParams(
            max_tokens=self._max_tokens(body, len(prompt)),
            seed=secrets.randbits(_SEED_BITS) if seed is None else seed % 2**_SEED_BITS,
            temperature=self._defaults.temperature if temperature is None else temperature,
            top_p=self._defaults.top_p if top_p is None else top_p,
            stop=_stop(body.get("stop")),
            n=n,
        )
        return ResolvedRequest(tuple(prompt), sampling, self._stop_token_ids, self._model_revision)

    def _max_tokens(self, body: dict[str, Any], num_prompt: int) -> int:
        """What was asked for, or all that fits. Raises RequestError when it does not fit."""
        wanted = body.get("max_completion_tokens")
        wanted = body.get("max_tokens") if wanted is None else wanted
        room = self._max_model_len - num_prompt
        if room < 1:
            raise self._too_long(
                f"your messages resulted in {num_prompt} tokens. Please reduce the length of the messages."
            )
        if wanted is not None and wanted > room:
            raise self._too_long(
                f"you requested {num_prompt + wanted} tokens ({num_prompt} in the messages, {wanted} in the "
                "completion). Please reduce the length of the messages or completion."
            )
        return room if wanted is None else wanted

    def _too_long(self, what: str) -> RequestError:
        return invalid_request(
            f"This model's maximum context length is {self._max_model_len} tokens. However, {what}",
            param="messages",
            code="context_length_exceeded",
        )


class _Prompter:
    """Turns messages into tokens by the model's own chat template.

    A user's text that spells a special token is broken by a mark before it is rendered. The mark is a token
    to this tokenizer, so nothing joins across it, and is left out of the prompt. Text that spells no special
    token is rendered and encoded as transformers' `apply_chat_template` does.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        added = self._backend.get_added_tokens_decoder().items()
        special = {i: token.content for i, token in added if token.special}
        special |= dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
        self._special_ids = frozenset(special)
        words = sorted(map(re.escape, special.values()), key=len, reverse=True)
        # A place where a special token begins, and its first character: such places may overlap.
        self._special = re.compile(rf"(?=(?:{'|'.join(words)}))(.)", re.DOTALL) if words else None
        # Private-use characters around what nobody can guess.
        self._mark = f"\ue000{secrets.token_hex(8)}\ue001"
        self._backend.add_tokens([AddedToken(self._mark, normalized=False)])
        self._mark_id = self._backend.token_to_id(self._mark)
        #: Characters of the longest token.
        self.longest_token = max(map(len, self._backend.get_vocab()))

    @property
    def end_token_ids(self) -> frozenset[int]:
        """The end-of-sequence token, and what the template writes behind an assistant's message."""
        eos = self._tokenizer.eos_token_id
        return self._end_of_turn() | (frozenset() if eos is None else {eos})

    def render(self, messages: list[dict[str, Any]]) -> str:
        """The prompt that asks for the assistant's next message. Raises RequestError."""
        inert = [{"role": each["role"], "content": self._inert(_text(each["content"]))} for each in messages]
        try:
            return self._render(inert, add_generation_prompt=True)
        except (TemplateError, TypeError, ValueError) as error:
            raise invalid_request(
                f"The model's chat template refuses these messages: {error}", param="messages"
            ) from error

    def encode(self, prompt: str) -> list[int]:
        """The tokens of what was rendered."""
        # `encode` would hold the interpreter, and with it the engine, until it is through.
        (encoding,) = self._backend.encode_batch_fast([prompt], add_special_tokens=False)
        return [token_id for token_id in encoding.ids if token_id != self._mark_id]

    def _inert(self, text: str) -> str:
        return self._special.sub(rf"\g<1>{self._mark}", text) if self._special else text

    def _render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool) -> str:
        prompt = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        assert isinstance(prompt, str)
        return prompt

    def _end_of_turn(self) -> frozenset[int]:
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": self._mark}]
        try:
            prompt = self._render(messages, add_generation_prompt=False)
        except (TemplateError, TypeError, ValueError):
            return frozenset()  # no template for a dialogue: the end of sequence must do
        after = prompt.rpartition(self._mark)[2].lstrip()
        token_ids = self._backend.encode(after, add_special_tokens=False).ids
        return frozenset(token_ids[:1]) & self._special_ids


def _text(content: str | list[dict[str, str]]) -> str:
    """A message's text; halves of surrogate pairs, which JSON can carry and UTF-8 cannot, as U+FFFD."""
    text = content if isinstance(content, str) else "\n".join(part["text"] for part in content)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _stop(stop: str | list[str] | None) -> tuple[str, ...]:
    return (stop,) if isinstance(stop, str) else tuple(stop or ())


def _generation_config(directory: Path) -> dict[str, Any]:
    try:
        fields = json.loads((directory / "generation_config.json").read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise BatonError(f"{directory / 'generation_config.json'} is not JSON: {error}") from error
    return fields if isinstance(fields, dict) else {}


def _ids(named: int | list[int] | None) -> frozenset[int]:
    return frozenset([named] if isinstance(named, int) else named or ())

"""Resolver: what the body of a request means to one model."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from shared.domain.constraint import Constraint
from shared.domain.job import ResolvedRequest
from shared.domain.prompt_logprobs import MAX_PROMPT_CANDIDATES
from shared.domain.sampling import SamplingParams
from shared.errors import BatonError, RequestError, invalid_request, invalid_value
from workers.engine.loading.model_files import ModelFiles
from workers.requests.chat_prompt import ChatPromptRenderer, PromptEnd
from workers.requests.generation_defaults import Defaults, GenerationConfig
from workers.requests.word_forms import word_forms

_SEED_BITS = 63
#: Tokens that all bad words of a request have together at most, as in vLLM: each choice has them read anew.
_MAX_BAD_TOKENS = 1024


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
        vocab_size: int | None = None,
        eos_token_ids: frozenset[int] = frozenset(),
        defaults: Defaults | None = None,
    ) -> None:
        """Takes the tokenizer over, and changes it. Raises MissingChatTemplate.

        `vocab_size`: how many logits the model has; None: as many as the tokenizer has tokens.
        """
        self._vocab_size = vocab_size or len(tokenizer)
        self._prompter = ChatPromptRenderer(tokenizer)
        self._model_revision = model_revision
        self._max_model_len = max_model_len
        ends = eos_token_ids | self._prompter.end_token_ids
        # Some configurations name ends that their model cannot draw; the engine would refuse each request.
        self._eos_token_ids = frozenset(token_id for token_id in ends if 0 <= token_id < self._vocab_size)
        self._defaults = defaults or Defaults()

    @classmethod
    def from_directory(cls, path: Path, model_revision: str, max_model_len: int | None = None) -> Resolver:
        """For the model in a directory or a GGUF file."""
        return cls.from_files(ModelFiles(path), model_revision, max_model_len)

    @classmethod
    def from_files(cls, files: ModelFiles, model_revision: str, max_model_len: int | None = None) -> Resolver:
        """`max_model_len` None: as long as the model was made for.

        What the model's generation_config.json recommends is the default, as in vLLM. Raises BatonError.
        """
        tokenizer, config = files.tokenizer(), files.config.get_text_config()
        made_for = getattr(config, "max_position_embeddings", None)
        lengths = [length for length in (max_model_len, made_for) if length is not None]
        if not lengths:
            raise BatonError(f"{files.path} does not say how long a text may be: set max_model_len")
        generation = GenerationConfig(files.path)
        return cls(
            tokenizer,
            model_revision=model_revision,
            max_model_len=min(lengths),
            vocab_size=config.vocab_size,
            eos_token_ids=generation.eos_token_ids or _ids(config.eos_token_id),
            defaults=generation.defaults,
        )

    def resolve(self, body: dict[str, Any], *, n: int) -> ResolvedRequest:
        """The prompt's tokens, and every parameter filled in. Raises RequestError."""
        # What is cheap to refuse comes before the prompt.
        stop_token_ids, logit_bias = self._stop_token_ids(body), self._logit_bias(body)
        allowed_token_ids, bad_words = self._allowed_token_ids(body), self._bad_words(body)
        prompt = self._prompt(body)
        max_tokens = self._max_tokens(body, len(prompt))
        usual, seed = self._defaults, body.get("seed")
        sampling = SamplingParams(
            max_tokens=max_tokens,
            seed=secrets.randbits(_SEED_BITS) if seed is None else seed,
            temperature=body.get("temperature", usual.temperature),
            top_p=body.get("top_p", usual.top_p),
            top_k=self._top_k(body.get("top_k", usual.top_k)),
            min_p=body.get("min_p", usual.min_p),
            repetition_penalty=body.get("repetition_penalty", usual.repetition_penalty),
            presence_penalty=body.get("presence_penalty", 0.0),
            frequency_penalty=body.get("frequency_penalty", 0.0),
            logit_bias=logit_bias,
            allowed_token_ids=allowed_token_ids,
            bad_words=bad_words,
            min_tokens=_min_tokens(body, max_tokens),
            logprobs=body.get("top_logprobs", 0) if body.get("logprobs") else None,
            stop=tuple(body.get("stop", ())),
            includes_stop=body.get("include_stop_str_in_output", False),
            shows_special=not body.get("skip_special_tokens", True),
            n=n,
            constraint=Constraint.decode(body.get("constraint")),
            prompt_logprobs=_prompt_logprobs(body, len(prompt)),
        )
        return ResolvedRequest(tuple(prompt), sampling, stop_token_ids, self._model_revision)

    def _prompt(self, body: dict[str, Any]) -> list[int]:
        text = self._prompter.render(body["messages"], _end(body), body.get("chat_template_kwargs", {}))
        if len(text) > self._max_model_len * self._prompter.longest_token:
            # Known without the tokenizer, which would be at it for seconds.
            raise self._too_long(f"your messages have {len(text)} characters.")
        return self._prompter.encode(text)

    def _max_tokens(self, body: dict[str, Any], num_prompt: int) -> int:
        """What was asked for, or what is usual, or all that fits. Raises RequestError."""
        wanted = body.get("max_tokens")
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
        return min(room, self._defaults.max_tokens or room) if wanted is None else wanted

    def _too_long(self, what: str) -> RequestError:
        return invalid_request(
            f"This model's maximum context length is {self._max_model_len} tokens. However, {what}",
            param="messages",
            code="context_length_exceeded",
        )

    def _top_k(self, top_k: int | None) -> int | None:
        return top_k if top_k is not None and 0 < top_k < self._vocab_size else None

    def _stop_token_ids(self, body: dict[str, Any]) -> tuple[int, ...]:
        given = self._token_ids(body, "stop_token_ids")
        own = frozenset() if body.get("ignore_eos") else self._eos_token_ids
        return tuple(sorted(own.union(given)))

    def _logit_bias(self, body: dict[str, Any]) -> tuple[tuple[int, float], ...]:
        biases = {int(name): bias for name, bias in body.get("logit_bias", {}).items()}
        for token_id in biases:
            self._require_token(token_id, f"logit_bias.{token_id}")
        return tuple(sorted(biases.items()))

    def _allowed_token_ids(self, body: dict[str, Any]) -> tuple[int, ...]:
        return tuple(sorted(set(self._token_ids(body, "allowed_token_ids"))))

    def _bad_words(self, body: dict[str, Any]) -> tuple[tuple[int, ...], ...]:
        forms = list(word_forms(body.get("bad_words", ()), self._prompter.encode, param="bad_words"))
        for place, tokens in forms:
            for token_id in tokens:
                self._require_token(token_id, place)
        found = tuple(dict.fromkeys(tokens for _, tokens in forms))
        if (num := sum(map(len, found))) > _MAX_BAD_TOKENS:
            raise invalid_value("bad_words", f"{num} tokens in all, and {_MAX_BAD_TOKENS} are the most")
        return found

    def _token_ids(self, body: dict[str, Any], name: str) -> list[int]:
        """Of a field that lists some. Raises RequestError."""
        given: list[int] = body.get(name, [])
        for index, token_id in enumerate(given):
            self._require_token(token_id, f"{name}[{index}]")
        return given

    def _require_token(self, token_id: int, param: str) -> None:
        if token_id >= self._vocab_size:
            raise invalid_value(param, f"this model has {self._vocab_size} tokens, from 0 on")


def _end(body: dict[str, Any]) -> PromptEnd:
    if body.get("continue_final_message"):
        return "open message"
    return "request" if body.get("add_generation_prompt", True) else "nothing"


def _min_tokens(body: dict[str, Any], max_tokens: int) -> int:
    wanted: int = body.get("min_tokens", 0)
    if wanted > max_tokens:
        raise invalid_value("min_tokens", f"the completion has at most {max_tokens} tokens")
    return wanted


def _prompt_logprobs(body: dict[str, Any], num_prompt: int) -> int | None:
    wanted: int | None = body.get("prompt_logprobs")
    if wanted is not None and num_prompt * (1 + wanted) > MAX_PROMPT_CANDIDATES:
        each = f"{1 + wanted} for each of {num_prompt} tokens are more than {MAX_PROMPT_CANDIDATES}"
        raise invalid_value("prompt_logprobs", each)
    return wanted


def _ids(named: int | list[int] | None) -> frozenset[int]:
    return frozenset([named] if isinstance(named, int) else named or ())

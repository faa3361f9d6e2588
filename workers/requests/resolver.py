"""Resolver: resolves requests for one model."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from transformers import PreTrainedTokenizerFast

from shared.domain.prompt_logprobs import MAX_PROMPT_CANDIDATES
from shared.domain.request import ChatMessage, ChatPrompt, GenerationRequest, Prompt, SamplingOptions
from shared.domain.sampling import SamplingParams
from shared.errors import BatonError, RequestError, invalid_value
from shared.store.question import Answer, Detokenize, Detokenized, Question, Tokens
from workers.engine.loading.context_length import choose_context_length
from workers.engine.loading.model_files import ModelFiles
from workers.engine.resolved_request import ResolvedRequest
from workers.requests.chat_prompt import ChatPromptRenderer
from workers.requests.generation_defaults import Defaults, GenerationConfig
from workers.requests.prompt_tokenizer import PromptTokenizer
from workers.requests.token_range import TokenRange
from workers.requests.word_forms import word_forms

T = TypeVar("T")
_SEED_BITS = 63
#: Maximum number of tokens of all bad words of a request, as in vLLM, because each choice processes them again.
_MAX_BAD_TOKENS = 1024


class Resolver:
    """Resolves requests whose form the API has checked, and checks what depends on the model.

    It may be used by one thread at a time, because its tokenizer cannot be shared. A user's text in a chat is always
    encoded as text, even if it spells a control token.
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
        """Modifies the tokenizer, so it must not be used elsewhere. Raises MissingChatTemplate.

        `vocab_size`: the number of logits of the model. None: the number of tokens of the tokenizer.
        """
        self._tokens = TokenRange(vocab_size or len(tokenizer))
        self._renderer = ChatPromptRenderer(tokenizer)
        self._tokenizer = PromptTokenizer(self._renderer, self._tokens, max_model_len=max_model_len)
        self._model_revision = model_revision
        ends = eos_token_ids | self._renderer.end_token_ids
        # Some configurations name stop tokens that their model does not have. The engine would refuse every request.
        self._eos_token_ids = frozenset(token_id for token_id in ends if 0 <= token_id < self._tokens.size)
        self._defaults = defaults or Defaults()

    @classmethod
    def from_directory(cls, path: Path, model_revision: str, max_model_len: int | None = None) -> Resolver:
        """Build a resolver for the model in a directory or a GGUF file."""
        return cls.from_files(ModelFiles(path), model_revision, max_model_len)

    @classmethod
    def from_files(cls, files: ModelFiles, model_revision: str, max_model_len: int | None = None) -> Resolver:
        """Build a resolver for a model. `max_model_len` None: the model's own limit.

        The defaults are those of the model's generation_config.json, as in vLLM. Raises BatonError.
        """
        tokenizer, config = files.tokenizer(), files.config.get_text_config()
        generation = GenerationConfig(files.path)
        resolver = cls(
            tokenizer,
            model_revision=model_revision,
            max_model_len=choose_context_length(files.config, max_model_len),
            vocab_size=config.vocab_size,
            eos_token_ids=generation.eos_token_ids or _ids(config.eos_token_id),
            defaults=generation.defaults,
        )
        resolver._renderer.check()
        resolver._check_vocabulary(files.path)
        return resolver

    def _check_vocabulary(self, path: Path) -> None:
        """Check that the model has the tokens of a plain chat. Raises BatonError."""
        try:
            text = self._renderer.render(ChatPrompt((ChatMessage("user", "?"),)))
        except RequestError:
            return  # the template wants a system message, say
        highest = max(self._renderer.encode(text), default=0)
        if highest >= self._tokens.size:
            raise BatonError(
                f"{path}: the tokenizer writes a chat with token {highest}, but config.json has vocab_size "
                f"{self._tokens.size}: they do not belong together"
            )

    def resolve(self, request: GenerationRequest) -> ResolvedRequest:
        """Tokenize the prompts and fill in all parameters. Raises RequestError."""
        options = request.sampling
        # The cheap checks come before the prompts.
        self._check_token_ids(options)
        bad_words = self._bad_words(options.bad_words)
        prompts = self._tokenizer.tokenize(request.prompts)
        room = self._tokenizer.room(request.prompts, prompts, options.max_tokens)
        max_tokens = _given(options.max_tokens, min(room, self._defaults.max_tokens or room))
        if options.min_tokens > max_tokens:
            raise invalid_value("min_tokens", f"the completion has at most {max_tokens} tokens")
        _check_prompt_logprobs(options.prompt_logprobs, sum(map(len, prompts)))
        return ResolvedRequest(
            prompts,
            self._sampling(request, max_tokens, bad_words),
            self._stop_token_ids(options),
            self._model_revision,
            named_stop_token_ids=tuple(sorted(set(options.stop_token_ids))),
            echo=self._echo(request, prompts) if options.echo else (),
            continues_text=all(map(_is_continued, request.prompts)),
        )

    def answer(self, question: Question) -> Answer:
        """Answer a question about the tokenizer. Raises RequestError."""
        if isinstance(question, Detokenize):
            self._tokens.require_all(question.token_ids, "tokens")
            return Detokenized(self._renderer.decode(question.token_ids, shows_special=True))
        token_ids = self._tokenizer.tokenize_one(
            question.prompt, adds_special_tokens=question.adds_special_tokens
        )
        tokens = self._renderer.tokens_of(token_ids) if question.shows_tokens else None
        return Tokens(token_ids, self._tokenizer.max_model_len, tokens)

    def _echo(self, request: GenerationRequest, prompts: Sequence[Sequence[int]]) -> tuple[str, ...]:
        shows_special = not request.sampling.skip_special_tokens
        return tuple(
            [
                self._tokenizer.echo(prompt, token_ids, shows_special=shows_special)
                for prompt, token_ids in zip(request.prompts, prompts, strict=True)
            ]
        )

    def _sampling(
        self, request: GenerationRequest, max_tokens: int, bad_words: tuple[tuple[int, ...], ...]
    ) -> SamplingParams:
        options, usual = request.sampling, self._defaults
        temperature, top_p = (
            _given(options.temperature, usual.temperature),
            _given(options.top_p, usual.top_p),
        )
        if top_p == 0:
            # The smallest set that reaches this probability is the most likely token alone.
            temperature, top_p = 0.0, 1.0
        return SamplingParams(
            max_tokens=max_tokens,
            seed=secrets.randbits(_SEED_BITS) if options.seed is None else options.seed,
            temperature=temperature,
            top_p=top_p,
            top_k=self._top_k(_given(options.top_k, usual.top_k)),
            min_p=_given(options.min_p, usual.min_p),
            repetition_penalty=_given(options.repetition_penalty, usual.repetition_penalty),
            presence_penalty=options.presence_penalty,
            frequency_penalty=options.frequency_penalty,
            logit_bias=tuple(sorted(options.logit_bias.items())),
            allowed_token_ids=tuple(sorted(set(options.allowed_token_ids))),
            bad_words=bad_words,
            min_tokens=options.min_tokens,
            logprobs=options.logprobs,
            stop=options.stop,
            includes_stop=options.include_stop,
            shows_special=not options.skip_special_tokens,
            n=request.n,
            constraint=request.constraint,
            prompt_logprobs=options.prompt_logprobs,
            prompt_only=options.prompt_only,
        )

    def _top_k(self, top_k: int | None) -> int | None:
        return top_k if top_k is not None and 0 < top_k < self._tokens.size else None

    def _stop_token_ids(self, options: SamplingOptions) -> tuple[int, ...]:
        own = frozenset[int]() if options.ignore_eos else self._eos_token_ids
        return tuple(sorted(own.union(options.stop_token_ids)))

    def _check_token_ids(self, options: SamplingOptions) -> None:
        """Raises RequestError."""
        self._tokens.require_all(options.stop_token_ids, "stop_token_ids")
        self._tokens.require_all(options.allowed_token_ids, "allowed_token_ids")
        for token_id in options.logit_bias:
            self._tokens.require(token_id, f"logit_bias.{token_id}")

    def _bad_words(self, words: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
        """Raises RequestError."""
        forms = list(word_forms(words, self._renderer.encode, param="bad_words"))
        for place, tokens in forms:
            for token_id in tokens:
                self._tokens.require(token_id, place)
        found = tuple(dict.fromkeys(tokens for _, tokens in forms))
        if (num := sum(map(len, found))) > _MAX_BAD_TOKENS:
            raise invalid_value("bad_words", f"they have {num} tokens, and the maximum is {_MAX_BAD_TOKENS}")
        return found


def _given(value: T | None, default: T) -> T:
    return default if value is None else value


def _is_continued(prompt: Prompt) -> bool:
    """Whether the answer continues the prompt's text. In a chat it is a message of its own, unless that was begun."""
    return not isinstance(prompt, ChatPrompt) or prompt.continue_final_message


def _check_prompt_logprobs(wanted: int | None, num_tokens: int) -> None:
    """Raises RequestError."""
    if wanted is not None and num_tokens * (1 + wanted) > MAX_PROMPT_CANDIDATES:
        each = f"{1 + wanted} for each of {num_tokens} tokens are more than {MAX_PROMPT_CANDIDATES}"
        raise invalid_value("prompt_logprobs", each)


def _ids(named: int | list[int] | None) -> frozenset[int]:
    return frozenset([named] if isinstance(named, int) else named or ())

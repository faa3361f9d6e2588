"""ChatPromptRenderer: renders a conversation as the tokens of a prompt."""

from __future__ import annotations

import inspect
import re
import secrets
from collections.abc import Sequence
from typing import Any, Literal

from jinja2 import TemplateError
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from shared.domain.request import ChatMessage, ChatPrompt
from shared.errors import BatonError, RequestError, invalid_request, invalid_value
from workers.engine.loading.loader import require_chat_template
from workers.requests.time_limit import time_limit

#: Time in which a template must render a short chat. Templates are code, and may never end.
_TEMPLATE_S = 10

#: How a prompt ends: with the start of the assistant's next message, with the last message, or within the last message,
#: which the model continues.
PromptEnd = Literal["request", "nothing", "open message"]
#: What a template may raise for messages that it rejects, or because it is wrong.
_TEMPLATE_ERRORS = (
    TemplateError,
    ArithmeticError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
#: Names that transformers passes to a template itself, or uses as parameters.
_RESERVED = {
    "messages",
    *inspect.signature(PreTrainedTokenizerFast.apply_chat_template).parameters,
    *inspect.signature(render_jinja_template).parameters,
}


class UnusableChatTemplate(BatonError):
    """Raised when a model's chat template renders no chat, or drops the user's text."""


class ChatPromptRenderer:
    """Renders messages with the model's chat template, and encodes the result.

    If a user's text spells a special token, a mark is inserted into it before it is rendered. The mark is a token of
    this tokenizer, so no token spans it. It is removed from the encoded prompt. Other text is rendered and encoded just
    as transformers' `apply_chat_template` does.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Modifies the tokenizer, so it must not be used elsewhere. Raises MissingChatTemplate."""
        require_chat_template(tokenizer)
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()
        added = self._backend.get_added_tokens_decoder().items()
        special = {i: token.content for i, token in added if token.special}
        special |= dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
        self._special_ids = frozenset(special)
        words = sorted(map(re.escape, special.values()), key=len, reverse=True)
        # Matches the first character of each special token. The lookahead allows overlapping matches.
        self._special = re.compile(rf"(?=(?:{'|'.join(words)}))(.)", re.DOTALL) if words else None
        # A random text between private-use characters, so that nobody can guess it.
        self._mark = f"\ue000{secrets.token_hex(8)}\ue001"
        self._backend.add_tokens([AddedToken(self._mark, normalized=False)])
        self._mark_id = self._backend.token_to_id(self._mark)
        #: Whether the template wants a message's content as a list of parts.
        self._takes_parts, self._fault = self._find_form_in_time()
        self._reads_effort = "reasoning_effort" in str(tokenizer.chat_template)
        #: Number of characters of the longest token.
        self.longest_token = max(map(len, self._backend.get_vocab()))

    @property
    def end_token_ids(self) -> frozenset[int]:
        """The end-of-sequence token, and the token that the template writes after an assistant's message."""
        eos = self._tokenizer.eos_token_id
        return self._end_of_turn() | (frozenset() if eos is None else {eos})

    def render(self, prompt: ChatPrompt) -> str:
        """Return the text of the prompt. Raises RequestError."""
        for name in prompt.template_variables:
            if name in _RESERVED:
                param = f"chat_template_kwargs.{name}"
                raise invalid_value(param, "this name is reserved")
        messages = [self._inert_message(message) for message in prompt.messages]
        variables = self._inert_values(prompt.template_variables)
        if prompt.reasoning_effort is not None and self._reads_effort:
            variables = {"reasoning_effort": prompt.reasoning_effort, **variables}
        end = _end(prompt)
        try:
            return self._render(messages, end, variables)
        except _TEMPLATE_ERRORS as error:
            raise self._refusal(error, end) from error

    def encode(self, text: str, *, adds_special_tokens: bool = False) -> list[int]:
        """Encode a rendered text. `adds_special_tokens`: include the tokens that the tokenizer puts around a text."""
        # Unlike `encode`, this releases the interpreter, so that the engine can run at the same time.
        (encoding,) = self._backend.encode_batch_fast([text], add_special_tokens=adds_special_tokens)
        return [token_id for token_id in encoding.ids if token_id != self._mark_id]

    def decode(self, token_ids: Sequence[int], *, shows_special: bool) -> str:
        """Return the text of token ids."""
        text: str = self._backend.decode(list(token_ids), skip_special_tokens=not shows_special)
        return text

    def tokens_of(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """Return the tokens as they stand in the vocabulary."""
        return tuple([self._backend.id_to_token(token_id) or "" for token_id in token_ids])

    def token_id(self, token: str) -> int | None:
        """Return the id of a token of the vocabulary."""
        token_id: int | None = self._backend.token_to_id(token)
        return token_id

    def _inert_message(self, message: ChatMessage) -> dict[str, str]:
        name = {} if message.name is None else {"name": self._inert(message.name)}
        return {"role": message.role, "content": self._inert(message.content), **name}

    def _inert(self, text: str) -> str:
        return self._special.sub(rf"\g<1>{self._mark}", text) if self._special else text

    def _inert_values(self, given: Any) -> Any:
        """Return a JSON value in which all text is inert."""
        if isinstance(given, dict):
            return {self._inert(name): self._inert_values(value) for name, value in given.items()}
        if isinstance(given, list):
            return [self._inert_values(value) for value in given]
        return self._inert(given) if isinstance(given, str) else given

    def check(self) -> None:
        """Raises UnusableChatTemplate if a plain chat cannot be rendered, or its prompt lacks what the user says."""
        if self._fault is not None:
            path = self._tokenizer.name_or_path
            raise UnusableChatTemplate(f"{path}: chat_template.jinja is unusable: {self._fault}")

    def _find_form_in_time(self) -> tuple[bool, str | None]:
        try:
            with time_limit(_TEMPLATE_S):
                return self._find_form()
        except TimeoutError:
            return False, f"it does not end within {_TEMPLATE_S} s"

    def _find_form(self) -> tuple[bool, str | None]:
        """Render what a user says. Returns whether it must be a list of parts, and what is wrong if neither works."""
        user, system = {"role": "user", "content": self._mark}, {"role": "system", "content": "?"}
        fault = "it drops what the user says"
        for takes_parts in (False, True):
            for messages in ([user], [system, user]):
                try:
                    prompt = self._render(messages, "request", {}, takes_parts=takes_parts)
                except _TEMPLATE_ERRORS as error:
                    fault = f"{type(error).__name__}: {str(error).replace(self._mark, '')}"
                    continue
                if self._mark.casefold() in prompt.casefold():
                    return takes_parts, None
        return False, fault

    def _render(
        self,
        messages: list[dict[str, str]],
        end: PromptEnd,
        variables: dict[str, Any],
        *,
        takes_parts: bool | None = None,
    ) -> str:
        has_parts = self._takes_parts if takes_parts is None else takes_parts
        prompt = self._tokenizer.apply_chat_template(
            [_with_parts(message) for message in messages] if has_parts else messages,
            tokenize=False,
            add_generation_prompt=end == "request",
            continue_final_message=end == "open message",
            **variables,
        )
        assert isinstance(prompt, str)
        return prompt

    def _refusal(self, error: Exception, end: PromptEnd) -> RequestError:
        if end == "open message" and isinstance(error, ValueError):
            # transformers' error message contains the whole prompt.
            return invalid_value("continue_final_message", "the chat template changes the last message")
        why = str(error).replace(self._mark, "")
        return invalid_request(f"The model's chat template rejects these messages: {why}", param="messages")

    def _end_of_turn(self) -> frozenset[int]:
        if self._fault is not None:
            return frozenset()
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": self._mark}]
        try:
            prompt = self._render(messages, "nothing", {})
        except _TEMPLATE_ERRORS:
            return frozenset()  # the template does not support this dialogue; end-of-sequence must suffice
        after = prompt.rpartition(self._mark)[2].lstrip()
        token_ids = self._backend.encode(after, add_special_tokens=False).ids
        return frozenset(token_ids[:1]) & self._special_ids


def _with_parts(message: dict[str, str]) -> dict[str, Any]:
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def _end(prompt: ChatPrompt) -> PromptEnd:
    if prompt.continue_final_message:
        return "open message"
    return "request" if prompt.add_generation_prompt else "nothing"

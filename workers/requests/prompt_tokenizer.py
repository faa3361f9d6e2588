"""PromptTokenizer: converts the prompts of a request to token ids."""

from __future__ import annotations

from collections.abc import Sequence

from shared.domain.request import ChatPrompt, Prompt, TextPrompt, TokenPrompt
from shared.errors import RequestError, invalid_value
from workers.engine.requests.limits import too_long
from workers.requests.chat_prompt import ChatPromptRenderer
from workers.requests.fill_in_the_middle import FillInTheMiddle
from workers.requests.token_range import TokenRange


class PromptTokenizer:
    """Tokenizes prompts for one model. Errors name OpenAI's fields: `messages` for a chat, otherwise `prompt`."""

    def __init__(self, renderer: ChatPromptRenderer, tokens: TokenRange, *, max_model_len: int) -> None:
        self._renderer = renderer
        self._tokens = tokens
        #: Maximum number of tokens of prompt and answer together.
        self.max_model_len = max_model_len
        self._fill_in = FillInTheMiddle.of(renderer.token_id)

    def tokenize(self, prompts: Sequence[Prompt]) -> tuple[tuple[int, ...], ...]:
        """Return the tokens of each prompt. Raises RequestError."""
        many = len(prompts) > 1
        return tuple(
            [
                tuple(self._one(prompt, f"prompt[{index}]" if many else "prompt"))
                for index, prompt in enumerate(prompts)
            ]
        )

    def tokenize_one(self, prompt: Prompt, *, adds_special_tokens: bool) -> tuple[int, ...]:
        """Return the tokens of a prompt, which may be empty. Raises RequestError."""
        if not isinstance(prompt, TextPrompt):
            return tuple(self._one(prompt, "messages" if isinstance(prompt, ChatPrompt) else "prompt"))
        self._require_short(prompt.text, "your prompt has", "prompt")
        return tuple(self._renderer.encode(prompt.text, adds_special_tokens=adds_special_tokens))

    def room(self, prompts: Sequence[Prompt], token_ids: Sequence[Sequence[int]], wanted: int | None) -> int:
        """Return how many tokens can follow the longest prompt. Raises RequestError if 0 or less than `wanted`."""
        num, prompt = max(zip(map(len, token_ids), prompts, strict=True), key=lambda pair: pair[0])
        word, room = _word(prompt), self.max_model_len - num
        if room < 1:
            what = f"your {word} resulted in {num} tokens. Please reduce the length of the {word}."
            raise self._too_long(what, word)
        if wanted is not None and wanted > room:
            raise self._too_long(
                f"you requested {num + wanted} tokens ({num} in the {word}, {wanted} in the completion). "
                f"Please reduce the length of the {word} or completion.",
                word,
            )
        return room

    def _one(self, prompt: Prompt, param: str) -> Sequence[int]:
        if isinstance(prompt, TokenPrompt):
            self._tokens.require_all(prompt.token_ids, param)
            token_ids: Sequence[int] = prompt.token_ids
        elif isinstance(prompt, ChatPrompt):
            text = self._renderer.render(prompt)
            self._require_short(text, "your messages have", "messages")
            return self._renderer.encode(text)
        else:
            self._require_short(prompt.text + (prompt.suffix or ""), "your prompt has", param)
            token_ids = self._of_text(prompt)
        if not token_ids:
            raise invalid_value(param, "the prompt is empty")
        return token_ids

    def _of_text(self, prompt: TextPrompt) -> Sequence[int]:
        token_ids = self._renderer.encode(prompt.text, adds_special_tokens=True)
        if prompt.suffix is None:
            return token_ids
        if self._fill_in is None:
            raise invalid_value("suffix", "this model has no fill-in-the-middle tokens")
        bare = self._renderer.encode(prompt.text)
        # What the tokenizer puts before a text, such as a beginning-of-sequence token, stays in front.
        begin = token_ids[: len(token_ids) - len(bare)] if bare and token_ids[-len(bare) :] == bare else []
        return [*begin, *self._fill_in.prompt(bare, self._renderer.encode(prompt.suffix))]

    def echo(self, prompt: Prompt, token_ids: Sequence[int], *, shows_special: bool) -> str:
        """Return the text of a prompt, as a completion that echoes it shows it."""
        if isinstance(prompt, TextPrompt):
            return prompt.text
        return self._renderer.decode(token_ids, shows_special=shows_special)

    def _require_short(self, text: str, what: str, param: str) -> None:
        if len(text) > self.max_model_len * self._renderer.longest_token:
            # Refused without tokenizing, which could take seconds.
            raise self._too_long(f"{what} {len(text)} characters.", param)

    def _too_long(self, what: str, param: str) -> RequestError:
        return too_long(self.max_model_len, what, param)


def _word(prompt: Prompt) -> str:
    return "messages" if isinstance(prompt, ChatPrompt) else "prompt"

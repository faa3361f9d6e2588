"""The bodies of `/tokenize` and `/detokenize`, as vLLM has them
(https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from api.dialects.openai_chat.message import Message, read_message
from api.dialects.openai_chat.prompting import PromptOptions
from api.dialects.openai_chat.schema import MAX_MESSAGES
from api.dialects.openai_completions.prompt import MAX_PROMPT_TOKENS
from api.dialects.parameters.sampling import TokenId
from api.dialects.unsupported import Refused, drop_noop_fields, vllm
from api.http.validation import FieldFault, Schema, validate
from shared.domain.request import Prompt, TextPrompt
from shared.errors import invalid_request
from shared.store.question import Detokenize, Detokenized, Tokenize, Tokens

_UNSUPPORTED: dict[str, Refused] = {
    "chat_template": vllm(note="The model's own template is used."),
    "mm_processor_kwargs": vllm({}),
    "tools": vllm([], note="Tool calls are not supported yet."),
}
_MODEL = Field(None, min_length=1, description="One of `/v1/models`. Default: the first of them.")


class TokenizeRequest(PromptOptions):
    """A text or a conversation."""

    model: str | None = _MODEL
    prompt: str | None = Field(None, description="A text.")
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)] | None = Field(
        None, description="A conversation, rendered by the model's chat template. Excludes `prompt`."
    )
    add_special_tokens: bool | None = Field(
        None,
        description="Whether the tokenizer puts its special tokens around a text. Default: true. Chat templates have"
        " their own.",
    )
    return_token_strs: bool | None = Field(
        None, description="Return the tokens as they stand in the vocabulary."
    )

    @model_validator(mode="after")
    def _is_one(self) -> TokenizeRequest:
        if (self.prompt is None) == (self.messages is None):
            raise FieldFault("prompt", "give either 'prompt' or 'messages'")
        if self.messages is not None and self.add_special_tokens:
            raise FieldFault("add_special_tokens", "the chat template adds special tokens itself")
        return self

    def question(self) -> Tokenize:
        """What to ask a worker."""
        asked: Prompt = (
            TextPrompt(self.prompt or "") if self.messages is None else self.prompt_of(self.messages)
        )
        return Tokenize(asked, self.add_special_tokens is not False, bool(self.return_token_strs))


class DetokenizeRequest(Schema):
    """Token ids."""

    model: str | None = _MODEL
    tokens: Annotated[list[TokenId], Field(max_length=MAX_PROMPT_TOKENS)] = Field(description="Token ids.")

    def question(self) -> Detokenize:
        """What to ask a worker."""
        return Detokenize(tuple(self.tokens))


def read_tokenize(fields: dict[str, Any], ignored: list[str]) -> TokenizeRequest:
    """Raises RequestError (400). Paths of unknown fields are added to `ignored`."""
    fields = drop_noop_fields(fields, TokenizeRequest, _UNSUPPORTED, "")
    if isinstance(messages := fields.get("messages"), list):
        fields["messages"] = [
            read_message(message, f"messages[{index}]", ignored) for index, message in enumerate(messages)
        ]
    return validate(TokenizeRequest, fields, ignored=ignored)


def read_detokenize(fields: dict[str, Any], ignored: list[str]) -> DetokenizeRequest:
    """The same for token ids."""
    tokens = fields.get("tokens")
    if isinstance(tokens, list) and len(tokens) > MAX_PROMPT_TOKENS:
        raise invalid_request(f"Invalid 'tokens': the maximum length is {MAX_PROMPT_TOKENS}.", param="tokens")
    return validate(DetokenizeRequest, drop_noop_fields(fields, DetokenizeRequest, {}, ""), ignored=ignored)


def tokens_json(tokens: Tokens) -> dict[str, Any]:
    """The response of `/tokenize`."""
    return {
        "count": len(tokens.token_ids),
        "max_model_len": tokens.max_model_len,
        "tokens": list(tokens.token_ids),
        "token_strs": None if tokens.tokens is None else list(tokens.tokens),
    }


def text_json(text: Detokenized) -> dict[str, Any]:
    """The response of `/detokenize`."""
    return {"prompt": text.text}

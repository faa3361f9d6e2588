"""PromptOptions: how the model's chat template makes the prompt, in a client's words.

OpenAI's `reasoning_effort`, and vLLM's names
(https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from api.dialects.openai_chat.message import Message
from api.http.validation import FieldFault, Schema
from shared.domain.request import ChatPrompt

_MAX_VARIABLES = 64
#: Characters of all variables together, as JSON.
MAX_VARIABLES_TEXT = 65_536


class VllmPromptOptions(Schema):
    """vLLM's names."""

    add_generation_prompt: bool | None = Field(
        None,
        description="Whether the prompt asks for the assistant's next message. Default: true, unless"
        " `continue_final_message` is.",
    )
    continue_final_message: bool | None = Field(
        None, description="Leave the last message open and continue it. Excludes `add_generation_prompt`."
    )
    chat_template_kwargs: Annotated[dict[str, Any], Field(max_length=_MAX_VARIABLES)] | None = Field(
        None,
        description=f"Additional variables for the chat template, at most {MAX_VARIABLES_TEXT} characters as JSON.",
    )

    @model_validator(mode="after")
    def _has_one_end(self) -> VllmPromptOptions:
        if self.continue_final_message and self.add_generation_prompt:
            raise FieldFault("continue_final_message", "it excludes 'add_generation_prompt': true")
        if len(json.dumps(self.chat_template_kwargs, ensure_ascii=False)) > MAX_VARIABLES_TEXT:
            raise FieldFault("chat_template_kwargs", f"it has more than {MAX_VARIABLES_TEXT} characters")
        return self


class PromptOptions(VllmPromptOptions):
    """OpenAI's name."""

    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = Field(
        None, description="How much the model reasons, if its chat template supports `reasoning_effort`."
    )

    def prompt_of(self, messages: Iterable[Message]) -> ChatPrompt:
        """The prompt of these messages."""
        continues = bool(self.continue_final_message)
        asks = self.add_generation_prompt
        return ChatPrompt(
            tuple([message.parsed() for message in messages]),
            add_generation_prompt=not continues if asks is None else asks,
            continue_final_message=continues,
            reasoning_effort=self.reasoning_effort,
            template_variables=self.chat_template_kwargs or {},
        )

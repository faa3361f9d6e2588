"""PromptOptions: how the model's chat template makes the prompt, as clients say it. vLLM's names
(https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html)."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field, model_validator

from api.http.validation import FieldFault, Schema

_MAX_VARIABLES = 64
#: Characters of all variables together, as JSON.
MAX_VARIABLES_TEXT = 65_536


class PromptOptions(Schema):
    """What the prompt ends with, and what else the template reads."""

    add_generation_prompt: bool | None = Field(
        None, description="Ask for the assistant's next message: true unless the last one is continued."
    )
    continue_final_message: bool | None = Field(
        None, description="Go on with the last message, which is left open. Not with `add_generation_prompt`."
    )
    chat_template_kwargs: Annotated[dict[str, Any], Field(max_length=_MAX_VARIABLES)] | None = Field(
        None,
        description=f"Variables of the template's own. At most {MAX_VARIABLES_TEXT} characters as JSON.",
    )

    @model_validator(mode="after")
    def _is_one_end(self) -> PromptOptions:
        if self.continue_final_message and self.add_generation_prompt:
            raise FieldFault("continue_final_message", "'add_generation_prompt' is true as well")
        if len(json.dumps(self.chat_template_kwargs, ensure_ascii=False)) > MAX_VARIABLES_TEXT:
            raise FieldFault("chat_template_kwargs", f"it has more than {MAX_VARIABLES_TEXT} characters")
        return self

    def prompting_body(self) -> dict[str, Any]:
        """What is stored in the job of it: what was given."""
        given = {name: getattr(self, name) for name in PromptOptions.model_fields}
        return {name: value for name, value in given.items() if value is not None}

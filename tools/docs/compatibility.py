"""Compatibility: docs/compatibility.md, made of the schemas. `python -m tools.docs.compatibility FILE`."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from api.dialects.openai_chat.message import Message
from api.dialects.openai_chat.prompting import PromptOptions
from api.dialects.openai_chat.sampling import VllmSampling
from api.dialects.openai_chat.schema import ChatRequest, StreamOptions, WithoutEffect
from api.dialects.openai_chat.structured_outputs import NamedSchema, ResponseFormat, StructuredOutputs
from api.dialects.openai_chat.unsupported import (
    UNSUPPORTED,
    UNSUPPORTED_IN_MESSAGE,
    UNSUPPORTED_IN_STREAM_OPTIONS,
    UNSUPPORTED_IN_STRUCTURED_OUTPUTS,
    Refused,
)
from api.http.openapi import json_schema
from shared.domain.prompt_logprobs import MAX_PROMPT_CANDIDATES
from shared.domain.sampling import SamplingParams

#: Sampling for which a model's generation_config.json may have another default.
RECOMMENDED = frozenset({"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens"})
#: Defaults that are no values.
_DEFAULTS = {"max_tokens": "all that fits", "top_k": "all", "seed": "random"}

_INTRODUCTION = """# Compatibility

What `/v1/chat/completions` takes of OpenAI's parameters and of vLLM's extra ones, which the official
clients send through `extra_body`. The `body` of a job on `/v1/jobs` is the same. This page is made of
api/schemas by `make docs`.

- A parameter that is `null` counts as not given. No value is converted: `"5"`, `5.0` and `true` are no
  integer, `true` is no number; `1` will do where `1.0` is asked for.
- A parameter that is not listed is refused: 400 `unknown_parameter`.
- A fault is a 400 in OpenAI's form; `param` names the place, as in `stop[2]`, `logit_bias.50256`, or
  `body.stop[2]` for a job.
- Token ids and the context's length are checked by the worker, who knows the model. The answer is a true
  400 too; of a job it is the error.
- The same request with the same `seed` gives the same answer, alone or in a crowd, streamed or whole, taken
  up again or not, as long as the model's files are the same and the worker's start-up check says `exact`.
"""

_RECOMMENDED_NOTE = (
    "\\* What the model's authors recommend in its generation_config.json goes first "
    "(`max_new_tokens` for `max_tokens`; `do_sample: false` is temperature 0).\n"
)
_LOGPROBS = f"""## Log probabilities

`logprobs` has OpenAI's shape: one entry a token, also for tokens that have no text of their own, such as half
of a character or the one that ends the answer, so there are as many entries as `usage.completion_tokens`.
`bytes` are what the token adds to the text, nothing where it is a special token or lies behind a stop string;
`token` shows them, with U+FFFD where they are no whole character. Values are those of the model alone, before
temperature, penalties and bias; what is less than -9999 is told as -9999.

`prompt_logprobs` has vLLM's shape, beside `choices`: null for the prompt's first token, for each other one an
object by token id, the token itself and then the likeliest, with `logprob`, `rank` (equal ones by id) and
`decoded_token` (of special tokens the name). They are told once, whatever `n` is, where the answer is told
whole: in the reply, by `GET /v1/chat/completions/{{id}}` and in a job's `result`; no stream has them. All of
the prompt is computed for them, what is cached too. The prompt's tokens times 1 + `prompt_logprobs` may be
{MAX_PROMPT_CANDIDATES}, so with 20 there may be {MAX_PROMPT_CANDIDATES // 21} tokens.
"""

_LISTS = """\
`bad_words` are matched as in vLLM, token by token: a word is read by the tokenizer without space before it,
and once more with one, where that gives as many tokens and another first one; barred is the last of these
tokens where the answer ends with the others. The same text in other tokens may still come. All together have
1024 tokens at most.
Where `allowed_token_ids`, `bad_words` and what the answer has to be leave no token, the request fails with
`no_token_left`.
"""

_STRUCTURE = """\
A schema or grammar that cannot be used is a 400 `invalid_grammar`: one that no text matches, one with
a keyword that the grammar library ([llguidance](https://github.com/guidance-ai/llguidance)) does not know,
one that refers to another document (nothing is fetched), one that takes more than 2 s or 64 MiB to compile
or nests definitions by the hundred.
Properties come in the schema's order. A text that nothing may follow ends at once, with `stop`, also before
`min_tokens`; the model's end and `stop_token_ids` end the answer only where the text may end, but for a
stop token that is itself allowed as text, and `stop` strings, which cut the text wherever they come.
At `max_tokens` the text may be unfinished: `finish_reason` is `length` then. Special tokens are never drawn.
"""


def page() -> str:
    """The whole page."""
    chat = _properties(ChatRequest)
    idle = {name: chat.pop(name) for name in WithoutEffect.model_fields}
    parts = [
        _INTRODUCTION,
        "## Honoured\n",
        _table(("parameter", "of", "value", "default", "what it does"), _honoured(chat)),
        _RECOMMENDED_NOTE,
        _LISTS,
        "## Taken, without effect\n",
        _table(("parameter", "of", "value", "why"), _idle(idle)),
        "## Refused by name\n",
        "400 `unsupported_parameter`, but for values that ask for what happens anyway.\n",
        _refusals(UNSUPPORTED),
        "## In `stream_options`\n",
        *_part(StreamOptions, UNSUPPORTED_IN_STREAM_OPTIONS),
        "## In `response_format`\n",
        _fields(ResponseFormat),
        "## In `response_format.json_schema`\n",
        _fields(NamedSchema),
        "## In `structured_outputs`\n",
        *_part(StructuredOutputs, UNSUPPORTED_IN_STRUCTURED_OUTPUTS),
        _STRUCTURE,
        "## In a message\n",
        *_part(Message, UNSUPPORTED_IN_MESSAGE),
        _LOGPROBS,
    ]
    return "\n".join(parts)


def _properties(schema: type[Any]) -> dict[str, Any]:
    properties = json_schema(schema)["properties"]
    assert isinstance(properties, dict)
    return properties


def _honoured(properties: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    for name, found in properties.items():
        yield _code(name), origin(name), _value(found), _default(name, found), found["description"]


def _idle(properties: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    for name, found in properties.items():
        yield _code(name), origin(name), _value(found), found["description"]


def _part(schema: type[Any], refused: Mapping[str, Refused]) -> tuple[str, str]:
    """What an object within the request may hold, and what not."""
    return _fields(schema), _refusals(refused)


def _fields(schema: type[Any]) -> str:
    fields = [(_code(name), _value(p), p["description"]) for name, p in _properties(schema).items()]
    return _table(("field", "value", "what it does"), fields)


def _refusals(fields: Mapping[str, Refused]) -> str:
    rows = [
        (
            _code(name),
            refused.origin,
            ", ".join(_code(json.dumps(value)) for value in refused.idle),
            refused.note,
        )
        for name, refused in fields.items()
    ]
    return _table(("refused", "of", "taken all the same", "note"), rows)


def origin(name: str) -> str:
    """Whose parameter it is."""
    others = ("spaces_between_special_tokens", "structured_outputs")
    return "vLLM" if name in {*VllmSampling.model_fields, *PromptOptions.model_fields, *others} else "OpenAI"


def _default(name: str, found: dict[str, Any]) -> str:
    defaults = {field.name: field.default for field in dataclasses.fields(SamplingParams)}
    value = found.get("default")
    if value is None and isinstance(defaults.get(name), int | float):
        value = defaults[name]
    shown = _DEFAULTS.get(name, "") if value is None else _code(json.dumps(value))
    return f"{shown} \\*".strip() if name in RECOMMENDED else shown


def _value(found: dict[str, Any]) -> str:
    """A JSON schema in words."""
    kinds = [each for each in found.get("anyOf", [found]) if each.get("type") != "null"]
    return " or ".join(_kind(each) for each in kinds)


def _kind(found: dict[str, Any]) -> str:
    if "anyOf" in found:
        return _value(found)
    if "const" in found:
        return _code(json.dumps(found["const"]))
    if "enum" in found:
        return ", ".join(_code(json.dumps(each)) for each in found["enum"])
    kind = str(found["type"])
    if kind in ("integer", "number"):
        return f"{kind} {_bounds(found)}".strip()
    if kind == "string":
        return f"string{_length(found, 'Length', 'characters')}"
    if kind == "array":
        return f"array{_length(found, 'Items', 'items')} of {_kind(found['items'])}"
    if kind == "object" and isinstance(found.get("additionalProperties"), dict):
        return f"object{_length(found, 'Properties', 'entries')} of {_kind(found['additionalProperties'])}"
    return kind


def _bounds(found: dict[str, Any]) -> str:
    signs = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    return ", ".join(f"{sign} {_number(found[key])}" for key, sign in signs if key in found)


def _number(value: float) -> str:
    """Powers of two, and those less one, as such."""
    size = abs(int(value))
    power = size.bit_length() - 1
    if size > 2**20 and size == 2**power:
        return f"{'-' if value < 0 else ''}2^{power}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _length(found: dict[str, Any], what: str, unit: str) -> str:
    least, most = found.get(f"min{what}", 0), found.get(f"max{what}")
    if most is not None:
        return f" ({least} to {most} {unit})"
    return f" (at least {least})" if least else ""


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page())

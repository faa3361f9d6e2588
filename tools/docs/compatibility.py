"""Generates docs/compatibility.md from the request schemas: `python -m tools.docs.compatibility FILE`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from api.dialects.openai_chat.message import Message
from api.dialects.openai_chat.prompting import VllmPromptOptions
from api.dialects.openai_chat.schema import ChatRequest, WithoutEffect
from api.dialects.openai_chat.unsupported import (
    UNSUPPORTED,
    UNSUPPORTED_IN_MESSAGE,
)
from api.dialects.openai_completions.schema import CompletionRequest
from api.dialects.openai_completions.schema import WithoutEffect as IdleInCompletions
from api.dialects.openai_completions.unsupported import UNSUPPORTED as UNSUPPORTED_IN_COMPLETIONS
from api.dialects.parameters.sampling import VllmSampling
from api.dialects.parameters.stream_options import StreamOptions
from api.dialects.parameters.structured_outputs import (
    UNSUPPORTED_IN_STRUCTURED_OUTPUTS,
    NamedSchema,
    ResponseFormat,
    StructuredOutputs,
)
from api.dialects.parameters.without_effect import VllmWithoutEffect
from api.dialects.unsupported import Refused
from api.http.openapi import json_schema
from shared.domain.prompt_logprobs import MAX_PROMPT_CANDIDATES
from shared.domain.request import MAX_CHOICES
from shared.domain.sampling import SamplingParams

#: Parameters whose default may come from the model's generation_config.json.
RECOMMENDED = frozenset({"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens"})
#: Defaults that are described in words.
_DEFAULTS = {"max_tokens": "all that fits", "top_k": "all", "seed": "random"}

_INTRODUCTION = """# Compatibility

This page lists OpenAI's parameters of `/v1/chat/completions` and [`/v1/completions`](#completions), and vLLM's extra
ones, which the official clients send through `extra_body`. The `body` of a job on `/v1/jobs` takes the same
parameters. `make docs` generates this page from `api/dialects`.

- A parameter that is `null` counts as not given. Values are not converted: `"5"`, `5.0` and `true` are not
  integers, and `true` is not a number. `1` is accepted where a number such as `1.0` is expected.
- A parameter that is not listed is ignored. The response header `x-ignored-parameters` names up to 20 of them, with
  `[]` for array indices; `+3` at its end counts those that are not named. `BATON_STRICT_PARAMETERS=true` rejects them
  with 400 `unknown_parameter`.
- A parameter that is listed as not supported is rejected, because the answer would be another one without it.
- An invalid request gets a 400 in OpenAI's format. `param` names the field, as in `stop[2]`,
  `logit_bias.50256`, or `body.stop[2]` for a job.
- The worker checks token ids and the context length, because it knows the model. Chats get HTTP 400; for jobs
  the same error appears in `error`.
- An `Idempotency-Key` stands for the endpoint and the body as it was sent, without `stream` and `stream_options`.
- The same request with the same `seed` gives the same answer: alone or in a batch, streamed or not, resumed or
  not. This holds as long as the model's files are the same and the worker's start-up check reports `exact`.
"""

_RECOMMENDED_NOTE = (
    "\\* The model's generation_config.json takes precedence over this default "
    "(`max_new_tokens` sets `max_tokens`; `do_sample: false` means temperature 0).\n"
)
_LOGPROBS = f"""## Log probabilities

`logprobs` has OpenAI's format, with one entry per token. Tokens without text of their own also have an entry, such
as half a character or the token that ends the answer, so there are `usage.completion_tokens` entries.
`bytes` is what the token adds to the text; it is empty for a special token or after a stop string.
`token` shows these bytes, with U+FFFD where they are not a complete character. Values come from the model alone,
before temperature, penalties and bias. Values below -9999 are reported as -9999.

`prompt_logprobs` has vLLM's format and stands next to `choices`. It is null for the prompt's first token. For every
other token it is an object by token id: the token itself, then the most likely ones, each with `logprob`, `rank`
(ties by id) and `decoded_token` (for special tokens, the name). It appears once, whatever `n` is, and only with
complete answers: in the response, in `GET /v1/chat/completions/{{id}}` and in a job's `result`, but not in streams.
The whole prompt is computed for it, including cached parts. The prompt's tokens times 1 + `prompt_logprobs` must not
exceed {MAX_PROMPT_CANDIDATES}, so a value of 20 allows {MAX_PROMPT_CANDIDATES // 21} tokens.
"""

_LISTS = """\
`bad_words` are matched token by token, as in vLLM. Each word is tokenized without a leading space, and once more with
one if that gives the same number of tokens and a different first token. The last token of such a sequence is banned
when the answer ends with the other ones. The same text may still appear in a different tokenization. All words
together may have up to 1024 tokens.
If `allowed_token_ids`, `bad_words` and the required structure leave no token, the request fails with
`no_token_left`.
"""

_STRUCTURE = """\
A schema or grammar that cannot be used gets a 400 `invalid_grammar`. This applies if no finite text matches it, if it
has a keyword that the grammar library ([llguidance](https://github.com/guidance-ai/llguidance)) does not support, if a
pattern of `patternProperties` also matches a name of `properties`, if random texts of it reach a point where nothing
may follow, if it refers to another document (nothing is fetched), if compiling it takes more than 2 s or 64 MiB, or if
it nests hundreds of definitions. The message names the path in the schema where it can.
Properties appear in the schema's order. When nothing can follow the text, the answer ends at once with `stop`, even
before `min_tokens`. The model's end token and `stop_token_ids` end the answer only where the text may end, except
for a stop token that is itself allowed as text. `stop` strings end the answer anywhere.
At `max_tokens` the text may be unfinished; `finish_reason` is then `length`. Special tokens are never generated.
"""

_COMPLETIONS = f"""## Completions

`/v1/completions` continues text. The prompt is taken as it is, without the chat template. Choices are numbered prompt
by prompt: choice `prompt * n + k` is the k-th one of a prompt. A request may have up to {MAX_CHOICES} choices in all.
In a text, the names of special tokens stand for these tokens. Token ids are used as they are.
"""
_COMPLETION_LOGPROBS = """\
`logprobs` has four lists with an entry for each token: `tokens`, `token_logprobs`, `top_logprobs` (by text; the token
itself is always there) and `text_offset` (characters of `text` before the token). With `echo`, the prompt's tokens come
first; the first of them has no log probability. `max_tokens: 0` returns the prompt's alone and uses no tokens.
`logprobs` with `echo`, `prompt_logprobs` and `best_of` above `n` need whole answers.
`suffix` needs a model with fill-in-the-middle tokens (Qwen2.5-Coder, CodeGemma, StarCoder, Granite, SantaCoder,
DeepSeek-Coder, Code Llama, Seed-Coder, Codestral); other models answer 400.
"""


def page() -> str:
    """The whole page."""
    chat = _properties(ChatRequest)
    idle = {name: chat.pop(name) for name in WithoutEffect.model_fields}
    parts = [
        _INTRODUCTION,
        "## Supported\n",
        _table(("parameter", "from", "value", "default", "what it does"), _supported(chat)),
        _RECOMMENDED_NOTE,
        _LISTS,
        "## Accepted without effect\n",
        _table(("parameter", "from", "value", "why"), _idle(idle)),
        "## Rejected by name\n",
        "These get a 400 `unsupported_parameter`, except for values that request what happens anyway.\n",
        _refusals(UNSUPPORTED),
        "## In `stream_options`\n",
        _fields(StreamOptions),
        "## In `response_format`\n",
        _fields(ResponseFormat),
        "## In `response_format.json_schema`\n",
        _fields(NamedSchema),
        "## In `structured_outputs`\n",
        *_part(StructuredOutputs, UNSUPPORTED_IN_STRUCTURED_OUTPUTS),
        _STRUCTURE,
        "## In a message\n",
        _fields(Message),
        _refusals(UNSUPPORTED_IN_MESSAGE),
        _LOGPROBS,
        _COMPLETIONS,
        *_completions(chat),
    ]
    return "\n".join(parts)


def _completions(chat: Mapping[str, Any]) -> Iterable[str]:
    """What differs from a chat."""
    properties = _properties(CompletionRequest)
    idle = {name: properties.pop(name) for name in IdleInCompletions.model_fields}
    same = sorted(name for name, found in properties.items() if chat.get(name) == found)
    own = {name: found for name, found in properties.items() if name not in same}
    yield f"These parameters are the same as in a chat: {', '.join(map(_code, same))}.\n"
    yield "### Supported in completions\n"
    yield _table(("parameter", "from", "value", "default", "what it does"), _supported(own))
    yield _COMPLETION_LOGPROBS
    yield "### Accepted without effect in completions\n"
    yield _table(("parameter", "from", "value", "why"), _idle(idle))
    yield "### Rejected by name in completions\n"
    yield _refusals(UNSUPPORTED_IN_COMPLETIONS)


def _properties(schema: type[Any]) -> dict[str, Any]:
    properties = json_schema(schema)["properties"]
    assert isinstance(properties, dict)
    return properties


def _supported(properties: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    for name, found in properties.items():
        yield _code(name), origin(name), _value(found), _default(name, found), found["description"]


def _idle(properties: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    for name, found in properties.items():
        yield _code(name), origin(name), _value(found), found["description"]


def _part(schema: type[Any], refused: Mapping[str, Refused]) -> tuple[str, str]:
    """The supported and the rejected fields of an object in the request."""
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
    return _table(("rejected", "from", "values accepted", "note"), rows)


def origin(name: str) -> str:
    """The API that the parameter comes from."""
    schemas = (VllmSampling, VllmPromptOptions, VllmWithoutEffect)
    names = {name for schema in schemas for name in schema.model_fields}
    return "vLLM" if name in {*names, "structured_outputs"} else "OpenAI"


def _default(name: str, found: dict[str, Any]) -> str:
    defaults = {field.name: field.default for field in msgspec.structs.fields(SamplingParams)}
    value = found.get("default")
    if value is None and isinstance(defaults.get(name), int | float):
        value = defaults[name]
    shown = _DEFAULTS.get(name, "") if value is None else _code(json.dumps(value))
    is_recommended = name in RECOMMENDED and found.get("default") is None
    return f"{shown} \\*".strip() if is_recommended else shown


def _value(found: dict[str, Any]) -> str:
    """Describes a JSON schema's values."""
    kinds = [each for each in found.get("anyOf", [found]) if each.get("type") != "null"]
    return " or ".join(_kind(each) for each in kinds)


def _kind(found: dict[str, Any]) -> str:
    if "anyOf" in found:
        return _value(found)
    if "const" in found:
        return _code(json.dumps(found["const"]))
    if "enum" in found:
        return ", ".join(_code(json.dumps(each)) for each in found["enum"])
    kind = str(found.get("type", "any value"))
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
    """Formats large powers of two as powers."""
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
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")

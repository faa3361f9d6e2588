"""Grammar: a constraint as the grammar library reads it (https://github.com/guidance-ai/llguidance).

Imports neither torch nor numpy: the trial of a grammar runs in a small process of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, regex_to_lark
from llguidance._tokenizer import TokenizerWrapper
from llguidance.gbnf_to_lark import GbnfToLarkError, gbnf_to_lark

from shared.domain.constraint import Constraint
from shared.errors import BatonError

#: Between the parts of a JSON text: at most one line break with an indentation, or one space. Were any
#: number allowed, a model could go on with spaces for ever.
_WHITESPACE = r"\n {0,32}| ?"
#: Without it, the library would tokenize what is certain to follow, and allow no other spelling of it.
_OPTIONS = '%llguidance {"no_forcing": true}'
#: What one step of one sequence may cost, some 10 ms, and what a grammar may hold, in states of a kilobyte
#: or two. Beyond them a request fails alone.
_STEP_LEXER_FUEL = 100_000
_STEP_ITEMS = 50_000
_LEXER_STATES = 50_000
#: Characters of the library's complaint that are told.
_MAX_TOLD = 300
_PLACE = re.compile(r"at \d+\(\d+\): ")


class GrammarError(BatonError):
    """Raised when a constraint is no grammar, or one that costs too much; the text says why."""


def make_tokenizer(tokens: Sequence[bytes]) -> LLTokenizer:
    """The library's view of a vocabulary: the bytes of each token, none where it has no text.

    One token more than there are stands for the end of the text.
    """
    return LLTokenizer(TokenizerWrapper(_Tokens(tokens)))


class _Tokens:
    """What the library asks a tokenizer for."""

    eos_token_id = None
    bos_token_id = None
    special_token_ids: Sequence[int] = ()

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self.tokens = list(tokens)

    def __call__(self, text: str | bytes) -> list[int]:  # noqa: ARG002
        return []  # asked for what is certain to follow, and nothing is: `no_forcing`


def compile_grammar(tokenizer: LLTokenizer, constraint: Constraint) -> LLMatcher:
    """A matcher at the beginning of the text. Raises GrammarError."""
    limits = LLParserLimits(
        step_lexer_fuel=_STEP_LEXER_FUEL,
        step_max_items=_STEP_ITEMS,
        max_lexer_states=_LEXER_STATES,
        verbose_errors=False,
    )
    matcher = LLMatcher(tokenizer, _source(constraint), log_level=0, limits=limits)
    if not matcher.is_error() and not matcher.is_accepting():
        matcher.compute_bitmask()  # finds out whether any text matches
    if matcher.is_error():
        raise GrammarError(_complaint(matcher))
    return matcher


def _source(constraint: Constraint) -> str:
    match constraint.kind:
        case "json_schema":
            rule = f"%json {_schema(constraint.text)}"
        case "regex":
            rule = f"/{regex_to_lark(constraint.text)}/"
        case "choice":
            choices = "|".join(map(re.escape, json.loads(constraint.text)))
            rule = f"/{regex_to_lark(choices)}/"
        case "grammar":
            return f"{_OPTIONS}\n{_lark(constraint.text)}"
    return f"{_OPTIONS}\nstart: {rule}"


def _schema(text: str) -> str:
    schema: Any = json.loads(text)
    if isinstance(schema, dict):
        schema["x-guidance"] = {"whitespace_pattern": _WHITESPACE}
    return json.dumps(schema)


def _lark(text: str) -> str:
    if "%llguidance" in text:
        raise GrammarError("%llguidance is not allowed")
    if "::=" not in text:
        return text
    try:
        return gbnf_to_lark(text).removeprefix("%llguidance {}")
    except GbnfToLarkError as error:
        raise GrammarError(str(error)[:_MAX_TOLD]) from error
    except (IndexError, RecursionError) as error:
        raise GrammarError("it ends too early, or is nested too deeply") from error


def _complaint(matcher: LLMatcher) -> str:
    """In one line; what the library tells of an expression ends with one that says what is wrong."""
    error = matcher.get_error()
    if error.startswith("NoExtension"):
        return "no text matches it"
    if error.startswith("panic"):
        return "the grammar library cannot read it"
    lines = _PLACE.sub("", error).splitlines()
    told = next((line for line in lines if line.startswith("error: ")), lines[0])
    return told.removeprefix("error: ")[:_MAX_TOLD].rstrip(".")

"""Grammar: compiles constraints with the grammar library (https://github.com/guidance-ai/llguidance).

Imports neither torch nor numpy, because GrammarSandbox runs it in a small process.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from itertools import islice
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, regex_to_lark
from llguidance._tokenizer import TokenizerWrapper
from llguidance.gbnf_to_lark import GbnfToLarkError, gbnf_to_lark

from shared.domain.constraint import Constraint
from shared.errors import BatonError
from workers.engine.constraints.finite_grammar import endless_start
from workers.engine.constraints.finite_schema import InfiniteSchema, finite_schema, parts_of

#: Whitespace between the parts of a JSON text: at most one line break with indentation, or one space. Without
#: a limit, a model could emit spaces forever.
_WHITESPACE = r"\n {0,32}| ?"
#: Otherwise the library tokenizes text that is certain to follow and allows no other tokenization of it.
_OPTIONS = '%llguidance {"no_forcing": true}'
#: Limits for one step of one sequence, about 10 ms, and for a grammar's states of one or two kilobytes each.
#: A request that exceeds them fails alone.
_STEP_LEXER_FUEL = 100_000
_STEP_ITEMS = 50_000
_LEXER_STATES = 50_000
#: Maximum length of a library error in our messages.
_MAX_ERROR_CHARS = 300
#: Random texts with which a grammar is tried, and their length in tokens.
_NUM_WALKS, _WALK_TOKENS = 8, 32
#: How the library's error begins when no token may follow and the text may not end.
_NO_TOKEN = "NoExtension"
#: Parts of a schema that are searched for a contradiction, at each depth.
_MAX_PARTS = 100
_LOCATION = re.compile(r"at \d+\(\d+\): ")


class GrammarError(BatonError):
    """Raised when a constraint is not a valid grammar or exceeds the limits. The text says why."""


def make_tokenizer(tokens: Sequence[bytes]) -> LLTokenizer:
    """Make the library's tokenizer from the bytes of each token, which are empty for tokens without text.

    An additional token stands for the end of the text.
    """
    return LLTokenizer(TokenizerWrapper(_Tokens(tokens)))


class _Tokens:
    """The interface that the library expects of a tokenizer."""

    eos_token_id = None
    bos_token_id = None
    special_token_ids: Sequence[int] = ()

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self.tokens = list(tokens)

    def __call__(self, text: str | bytes) -> list[int]:  # noqa: ARG002
        return []  # the library asks for text that is certain to follow; with `no_forcing` there is none


def compile_grammar(tokenizer: LLTokenizer, constraint: Constraint) -> LLMatcher:
    """Compile a constraint into a matcher at the start of the text. Raises: GrammarError."""
    limits = LLParserLimits(
        step_lexer_fuel=_STEP_LEXER_FUEL,
        step_max_items=_STEP_ITEMS,
        max_lexer_states=_LEXER_STATES,
        verbose_errors=False,
    )
    matcher = LLMatcher(tokenizer, _source(constraint), log_level=0, limits=limits)
    if not matcher.is_error() and not matcher.is_accepting():
        matcher.compute_bitmask()  # reports an error if no text matches
    if matcher.is_error():
        where = _contradiction(tokenizer, constraint.text) if constraint.kind == "json_schema" else ""
        raise GrammarError(where + _error_text(matcher))
    return matcher


def _contradiction(tokenizer: LLTokenizer, text: str) -> str:
    """Return the path of the innermost part of a schema that nothing matches, for an error. Empty: the whole schema."""
    root = json.loads(text)
    if not isinstance(root, dict):
        return ""
    shared = {name: root[name] for name in ("$defs", "definitions") if name in root}
    path, node = "#", root
    for _ in range(_MAX_PARTS):
        parts = islice(parts_of(node, path), _MAX_PARTS)
        found = next((part for part in parts if _is_contradiction(tokenizer, {**shared, **part[1]})), None)
        if found is None:
            break
        path, node = found
    return "" if path == "#" else f"{path}: "


def _is_contradiction(tokenizer: LLTokenizer, schema: dict[str, Any]) -> bool:
    matcher = LLMatcher(tokenizer, f"{_OPTIONS}\nstart: %json {json.dumps(schema)}", log_level=0)
    return matcher.is_error() and "Unsatisfiable" in matcher.get_error()


def require_no_dead_end(matcher: LLMatcher) -> None:
    """Try random texts of a grammar. Raises: GrammarError if one of them can neither go on nor end.

    It does not find every dead end: the others fail at run time, each alone.
    """
    draw = random.Random(0)
    for _ in range(_NUM_WALKS):
        walker = matcher.deep_copy()
        token_ids: list[int] = []
        while len(token_ids) < _WALK_TOKENS and not walker.is_stopped():
            bits = int.from_bytes(walker.compute_bitmask(), "little")
            if walker.is_error():
                break
            token_ids.append(_drawn(bits, draw))
            if not walker.try_consume_tokens(token_ids[-1:]):
                break  # it has drawn the end of the text
        if walker.is_error() and walker.get_error().startswith(_NO_TOKEN):
            raise GrammarError(
                f"a text of it can reach a point where nothing may follow, after {len(token_ids)} tokens"
            )


def _drawn(bits: int, draw: random.Random) -> int:
    """Return a random bit that is set."""
    place = draw.randrange(bits.bit_length())
    above = bits >> place
    if above:
        return place + (above & -above).bit_length() - 1
    return bits.bit_length() - 1


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
            return f"{_OPTIONS}\n{_finite(_lark(constraint.text))}"
    return f"{_OPTIONS}\nstart: {rule}"


def _schema(text: str) -> str:
    try:
        schema: Any = finite_schema(json.loads(text))
    except InfiniteSchema as error:
        raise GrammarError(str(error)[:_MAX_ERROR_CHARS]) from error
    if isinstance(schema, dict):
        schema["x-guidance"] = {"whitespace_pattern": _WHITESPACE}
    return json.dumps(schema)


def _finite(grammar: str) -> str:
    if endless_start(grammar):
        raise GrammarError("no finite text matches it: each alternative of a rule needs the rule itself")
    return grammar


def _lark(text: str) -> str:
    if "%llguidance" in text:
        raise GrammarError("%llguidance is not allowed")
    if "::=" not in text:
        return text
    try:
        return gbnf_to_lark(text).removeprefix("%llguidance {}")
    except GbnfToLarkError as error:
        raise GrammarError(str(error)[:_MAX_ERROR_CHARS]) from error
    except (IndexError, RecursionError) as error:
        raise GrammarError("it ends too early or is nested too deeply") from error
    except Exception as error:  # this is what the library raises for an unknown rule
        raise GrammarError(str(error)[:_MAX_ERROR_CHARS]) from error


def _error_text(matcher: LLMatcher) -> str:
    """The library's error in one line. For a regular expression, the last line says what is wrong."""
    error = matcher.get_error()
    if error.startswith(_NO_TOKEN):
        return "no text matches it"
    if error.startswith("panic"):
        return "the grammar library cannot read it"
    lines = _LOCATION.sub("", error).splitlines()
    text = next((line for line in lines if line.startswith("error: ")), lines[0])
    return text.removeprefix("error: ")[:_MAX_ERROR_CHARS].rstrip(".")

"""Constraints as grammars: which texts match, and which constraints are invalid."""

from __future__ import annotations

import functools
import json
import random
import re
from typing import Any

import pytest
from llguidance import LLMatcher

from shared.domain.constraint import Constraint, ConstraintKind
from workers.engine.constraints.grammar import (
    GrammarError,
    compile_grammar,
    make_tokenizer,
    require_no_dead_end,
)

TOKENIZER = make_tokenizer([bytes([byte]) for byte in range(256)])
PERSON = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
GBNF = 'root ::= "(" root ")" | digit+  # balanced\ndigit ::= [0-9]\n'
LARK = 'start: "(" start ")" | DIGITS\nDIGITS: /[0-9]+/'


def matcher(kind: ConstraintKind, text: str) -> LLMatcher:
    return compile_grammar(TOKENIZER, Constraint(kind, text, "field"))


def matches(kind: ConstraintKind, text: str, candidate: str) -> bool:
    found = matcher(kind, text)
    wanted = list(candidate.encode())
    return found.try_consume_tokens(wanted) == len(wanted) and found.is_accepting()


@pytest.mark.parametrize(
    ("schema", "texts", "others"),
    [
        (
            PERSON,
            ['{"a":1}', '{"a": 1}', '{\n  "a": 1\n}', '{"a":1, "b":[]}'],
            ["{}", '{"a":"x"}', "[]", ' {"a":1}'],
        ),
        ({"type": "object"}, ["{}", '{"ä":{"b":null}}'], ["1", "[]", "{"]),
        ({"enum": ["x", 5, None]}, ['"x"', "5", "null"], ["x", "6"]),
        ({}, ["1", '"a"', "[]", "true"], ["a", ""]),
        ({"type": "string", "pattern": "^a+$"}, ['"aa"'], ['""', '"ab"']),
        ({"type": "array", "items": {"type": "boolean"}, "maxItems": 1}, ["[]", "[true]"], ["[true,true]"]),
        ({"x-guidance": {"whitespace_flexible": False}, **PERSON}, ['{ "a": 1 }'], ['{\t"a":1}']),
    ],
)
def test_a_schema(schema: dict[str, Any], texts: list[str], others: list[str]) -> None:
    for text in texts:
        json.loads(text)
        assert matches("json_schema", json.dumps(schema), text), text
    assert not [text for text in others if matches("json_schema", json.dumps(schema), text)]


def test_whitespace_between_parts_is_limited() -> None:
    found = matcher("json_schema", json.dumps(PERSON))
    assert found.try_consume_tokens(list(b'{"a":\n' + b" " * 100)) == 6 + 32
    assert found.try_consume_tokens(list(b"7")) == 1


@pytest.mark.parametrize("expression", ["a+b?", "^(yes|no)$", r"\d{2}/\d", "a\nb", r"[^/]\\", "é|ü"])
def test_an_expression(expression: str) -> None:
    for text in ("a", "aab", "yes", "12/3", "12", "a\nb", "x\\", "/\\", "é", "ü", ""):
        assert matches("regex", expression, text) == bool(re.fullmatch(expression, text)), text


def test_a_choice_is_one_of_those_given_whatever_they_hold() -> None:
    choices = ["a", "ab", "a.b", "x\n/", '"', "\\", "[é](*)", "start: /./"]
    for text in (*choices, "aab", "a1b", "b", "", "x"):
        assert matches("choice", json.dumps(choices), text) == (text in choices), text


@pytest.mark.parametrize("grammar", [GBNF, LARK])
def test_a_grammar(grammar: str) -> None:
    for text, is_one in (("1", True), ("((12))", True), ("(1", False), ("()", False), ("((1)", False)):
        assert matches("grammar", grammar, text) == is_one


@pytest.mark.parametrize(
    ("kind", "text", "complaint"),
    [
        ("json_schema", '{"type":"foo"}', "Invalid type: foo"),
        ("json_schema", '{"type":"string","pattern":"(?<=a)b"}', "look-around"),
        ("json_schema", '{"type":"string","pattern":"["}', "unclosed"),
        ("json_schema", '{"$ref":"#"}', "no finite text matches"),
        ("json_schema", '{"$ref":"#/nowhere"}', "nowhere"),
        ("json_schema", '{"$ref":"http://127.0.0.1:9/x"}', "does not fetch"),
        ("json_schema", '{"$ref":"file:///etc/passwd"}', "does not fetch"),
        ("json_schema", '{"enum":[]}', "empty"),
        ("json_schema", '{"type":"string","minLength":3,"maxLength":1}', "Unsatisfiable"),
        ("json_schema", '{"uniqueItems":true}', "uniqueItems"),
        ("json_schema", '{"x-guidance":{"lenient":true},"uniqueItems":true}', "uniqueItems"),
        ("regex", "(?=a)b", "look-around"),
        ("regex", "[a", "unclosed"),
        ("regex", "(" * 1000 + ")" * 1000, "nest"),
        ("grammar", "start: other", "other"),
        ("grammar", "start: start", "no finite text matches"),
        ("grammar", "start: <|im_end|>", "cannot read"),
        ("grammar", '%llguidance {"no_forcing": false}\nstart: "a"', "not allowed"),
        ("grammar", "root ::= [a", "Unexpected end"),
        ("grammar", 'root ::= "\\', "ends too early"),
        ("grammar", "root ::= " + "(" * 10_000, "nested too deeply"),
        ("grammar", "what is this", "Expected token"),
    ],
)
def test_an_invalid_grammar_is_reported(kind: ConstraintKind, text: str, complaint: str) -> None:
    with pytest.raises(GrammarError, match=re.escape(complaint)) as caught:
        matcher(kind, text)
    assert len(str(caught.value)) <= 300 and "\n" not in str(caught.value)


def test_a_contradiction_is_named_with_its_path() -> None:
    wrong = {"type": "array", "items": {"type": "string", "minLength": 5, "maxLength": 2}, "minItems": 1}
    schema = {"type": "object", "properties": {"a": wrong}, "required": ["a"]}
    with pytest.raises(GrammarError, match=r"^#/properties/a/items: .*Unsatisfiable"):
        matcher("json_schema", json.dumps(schema))


@pytest.mark.parametrize("text", ['start: "q" A\nA: /a/ & /b/', 'start: "c" | "q" A\nA: /a/ & /b/'])
def test_a_grammar_with_a_dead_end_is_refused(text: str) -> None:
    with pytest.raises(GrammarError, match="nothing may follow"):
        require_no_dead_end(matcher("grammar", text))


@pytest.mark.parametrize("text", ['start: "q" A*\nA: /a+/', 'root ::= "a" root | "b"'])
def test_a_grammar_without_dead_end_passes(text: str) -> None:
    require_no_dead_end(matcher("grammar", text))


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(GrammarError, match="'x' not found"):
        matcher("grammar", 'root ::= "a" x')


_NAMES = ["a", "b", "score", "^s", "^a$", "x+"]


def _random_schema(draw: random.Random, depth: int = 0) -> Any:
    kinds = ["string", "integer", "number", "boolean", "null", "bool", "enum", "const"]
    kind = draw.choice(kinds + (["object", "array", "anyOf", "allOf", "ref"] * 2 if depth < 4 else []))
    inner = functools.partial(_random_schema, draw, depth + 1)
    few = functools.partial(draw.randint, 0, 3)
    match kind:
        case "object":
            return {
                "type": "object",
                "properties": {name: inner() for name in draw.sample(_NAMES, few())},
                "required": draw.sample(_NAMES, draw.randint(0, 1)),
                **draw.choice(
                    [{}, {"additionalProperties": inner()}, {"patternProperties": {"^s": inner()}}]
                ),
            }
        case "array":
            return {"type": "array", "items": inner(), "minItems": few(), "maxItems": few()}
        case "anyOf" | "allOf":
            return {kind: [inner() for _ in range(1 + few())]}
        case "ref":
            return {"$ref": draw.choice(["#", "#/$defs/d", "#/$defs/e"])}
        case "string":
            return {
                "type": "string",
                "minLength": few(),
                "maxLength": few(),
                **draw.choice([{}, {"pattern": "^a*$"}]),
            }
        case "integer" | "number":
            return {"type": kind, "minimum": few(), "maximum": few()}
        case "bool":
            return draw.choice([True, False, {}])
        case "enum":
            return {"enum": [1, "x", None]}
        case "const":
            return {"const": draw.choice([1, "yes", [1]])}
    return {"type": kind}


def test_no_random_schema_fails_in_the_middle_of_an_answer() -> None:
    draw, num_valid = random.Random(1), 0
    for _ in range(500):
        schema = _random_schema(draw)
        if isinstance(schema, dict):
            schema["$defs"] = {"d": _random_schema(draw, 2), "e": _random_schema(draw, 2)}
        try:
            found = matcher("json_schema", json.dumps(schema))
            require_no_dead_end(found)
        except GrammarError:
            continue
        num_valid += 1
        said = bytearray()
        for _ in range(100):
            allowed = int.from_bytes(found.compute_bitmask(), "little")
            assert not found.is_error(), (schema, said)
            tokens = [token for token in range(256) if allowed >> token & 1]
            if not tokens:
                assert found.is_accepting(), (schema, said)
                json.loads(said)
                break
            said.append(draw.choice(tokens))
            assert found.try_consume_tokens([said[-1]]) == 1
    assert num_valid > 100

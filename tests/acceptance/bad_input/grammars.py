"""Part C: schemas, expressions and grammars."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from typing import Any

from tests.acceptance.bad_input.case import Case, Refused, field, known_to_worker, post
from tests.acceptance.bad_input.site import CHAT, Site, chat

_SCHEMA = "response_format.json_schema.schema"
#: As many definitions as pass for short, each of which is the next one.
_CHAIN = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(1500)} | {"d1500": {}}
_RULES = "".join(f"r{i}: r{i + 1}\n" for i in range(4000)) + 'r4000: "a"\nstart: r0'


def _schema(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


def _outputs(**given: Any) -> dict[str, Any]:
    return {"structured_outputs": given}


def _nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "null"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def _bad_schema(name: str, schema: Any) -> Case:
    return known_to_worker(name, _schema(schema), _SCHEMA, "invalid_grammar")


def _bad(name: str, **given: str) -> Case:
    (kind,) = given
    return known_to_worker(name, _outputs(**given), f"structured_outputs.{kind}", "invalid_grammar")


def _served(name: str, fields: dict[str, Any], pattern: str) -> Case:
    """Large or odd, and no harm: it is done."""

    def act(site: Site) -> Iterable[Refused]:
        reply = site.request("POST", CHAT, chat(**fields))
        assert reply.status == 200, reply
        assert re.fullmatch(pattern, reply.json["choices"][0]["message"]["content"], re.DOTALL), reply
        return []

    return Case(name, act)


def _fetches_nothing(site: Site) -> Iterable[Refused]:
    """Nobody comes to fetch a schema that lies elsewhere."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        reply = site.request("POST", CHAT, chat(**_schema({"$ref": url})))
        yield Refused(reply, 400, "invalid_grammar", _SCHEMA)
        try:
            server.accept()
        except TimeoutError:
            return
        raise AssertionError("it was fetched")


CASES = [
    _bad_schema("C47 a type that is none", {"type": "foo"}),
    _bad_schema("C47 properties that are none", {"type": "object", "properties": 5}),
    _bad_schema("C47 a keyword that is not honoured", {"type": "array", "uniqueItems": True}),
    _bad_schema("C47 nothing matches", {"type": "string", "minLength": 2, "maxLength": 1}),
    field("C47 a schema that is a list", _schema([]), 400, "invalid_type", _SCHEMA),
    _served("C48 a star of a star", _outputs(regex="(foo**){1,2}"), "(fo*)*"),
    _bad_schema("C48 a pattern that does not end", {"type": "string", "pattern": "[a"}),
    _bad("C48 an expression that does not end", regex="(a"),
    _bad("C48 a backward reference", regex=r"(a)\1"),
    _served("C49 nested quantifiers", _outputs(regex="(a+)+b?"), "a+b?"),
    _bad("C49 10 KB of them", regex="(" * 5000 + "a" + "+)" * 5000),
    _bad("C49 looking behind", regex="(?<=a)b"),
    _served("C49 a million repetitions of a thousand", _outputs(regex="(a{1,1000}){1,1000000}"), "a+"),
    _served("C49 2^20 states", _outputs(regex="(a|b)*a(a|b){20}"), "[ab]+"),
    post("C50 depth 1,000", chat(**_schema(_nested(500))), 400),
    _served("C50 depth 50", _schema(_nested(25)), r"[\[\]\s]+"),
    _bad_schema("C50 a schema that is itself", {"$ref": "#"}),
    _bad_schema("C50 definitions that are each other", {"$defs": _CHAIN, "$ref": "#/$defs/d0"}),
    Case("C50 a schema that lies elsewhere", _fetches_nothing),
    _bad_schema("C50 a schema that is a file", {"$ref": "file:///etc/passwd"}),
    post("C51 a million values", chat(**_schema({"enum": list(range(1_000_000))})), 413, "request_too_large"),
    post("C51 100,000 values", chat(**_schema({"enum": list(range(100_000))})), 400),
    field("C51 30,000 values", _schema({"enum": list(range(30_000))}), 400, "invalid_value", _SCHEMA),
    _served("C51 minItems 10^9", _schema({"type": "array", "minItems": 10**9}), r"\[.*"),
    _served("C51 maxLength 10^9", _schema({"type": "string", "maxLength": 10**9}), '".*'),
    _bad_schema("C51 what takes long to compile", {"type": "integer", "multipleOf": 999_983}),
    field(
        "C51 2,000 choices",
        _outputs(choice=[str(i) for i in range(2000)]),
        400,
        "array_above_max_length",
        "structured_outputs.choice",
    ),
    _bad("C51 a rule that is not there", grammar="start: other"),
    _bad("C51 a rule that is itself", grammar="root ::= root"),
    _bad(
        "C51 rules in a chain",
        grammar="\n".join(f"r{i}: r{i + 1}" for i in range(4000)) + '\nr4000: "a"\nstart: r0',
    ),
    _bad("C51 the library's own switches", grammar='%llguidance {"no_forcing": false}\nstart: "a"'),
    _bad("C51 a special token", grammar="start: <|im_end|>"),
]

"""The text always satisfies its constraint, here even with a model of random weights."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
import pytest

from shared.domain.output import ChoiceOutput, Finish
from shared.errors import RequestError
from tests.features import END, ONE, PERSON
from tests.integration.workers.lone_worker import LoneWorker
from tests.tiny_chat_model import make_tiny_chat_model

Check = Callable[[str], object]
PLAIN = {"temperature": 1.0, "seed": 1, "max_tokens": 60, "ignore_eos": True}
TREE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "value": {"type": "number", "minimum": -9, "maximum": 9},
        "next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
    },
    "required": ["value", "next"],
    "additionalProperties": False,
}
MAYBE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"},
        "day": {"type": "string", "format": "date"},
        "flags": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
        "of": {"oneOf": [{"const": "x"}, {"type": "integer", "multipleOf": 5, "maximum": 999, "minimum": 0}]},
    },
    "additionalProperties": False,
}
REGEX = r"(ab|ba){2,9}!?\n[0-9]{1,4}[é-ü]"
CHOICES = ["yes", "no", "yes and no", "nö", '"quoted"', "a\nb"]
ARITHMETIC = """
root ::= sum
sum ::= part ([+*] part){0,3}
part ::= [0-9] | "(" [0-9] [+*] part ")"
"""


def as_schema(schema: dict[str, Any]) -> tuple[dict[str, Any], Check]:
    fields = {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}
    return fields, lambda text: jsonschema.validate(
        json.loads(text), schema, format_checker=jsonschema.FormatChecker()
    )


def check_choice(text: str) -> None:
    assert text in CHOICES


def check_regex(text: str) -> None:
    assert re.fullmatch(REGEX, text)


def check_sum(text: str) -> None:
    """By Python's own grammar, of which it is a part."""
    assert re.fullmatch(r"[0-9+*()]+", text)
    compile(text, "sum", "eval")


ASKED: dict[str, tuple[dict[str, Any], Check]] = {
    "person": as_schema(PERSON),
    "tree": as_schema(TREE),
    "maybe": as_schema(MAYBE),
    "regex": ({"structured_outputs": {"regex": REGEX}}, check_regex),
    "choice": ({"structured_outputs": {"choice": CHOICES}}, check_choice),
    "grammar": ({"structured_outputs": {"grammar": ARITHMETIC}}, check_sum),
}
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "hot": {"temperature": 1.8, "seed": 3},
    "cut": {"temperature": 1, "top_k": 5, "top_p": 0.9, "seed": 4},
    "penalties": {"temperature": 0.7, "frequency_penalty": 2, "repetition_penalty": 1.5, "seed": 5},
    # Its own end is what the model wants most of all, or nothing ends it.
    "eager": {"logit_bias": {str(END): 100}, "seed": 6},
    "ignoring": {"ignore_eos": True, "seed": 7},
    "late": {"min_tokens": 300, "logit_bias": {str(END): 100}, "seed": 8},
    "several": {"n": 3, "seed": 9, "logprobs": True, "top_logprobs": 2},
}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoneWorker]:
    worker = LoneWorker.start(make_tiny_chat_model(tmp_path_factory.mktemp("model") / "tiny"))
    yield worker
    worker.engine.close()


def body(name: str, way: str) -> dict[str, Any]:
    return {"max_tokens": 400, **ASKED[name][0], **WAYS[way]}


def answers(worker: LoneWorker, **bodies: dict[str, Any]) -> dict[str, tuple[ChoiceOutput, ...]]:
    """All of them at once."""
    for name, fields in bodies.items():
        request = worker.resolve(fields)
        worker.engine.prepare(request)
        worker.add(name, request)
    worker.run()
    return {name: worker.answer(name, fields.get("n", 1)) for name, fields in bodies.items()}


@pytest.mark.parametrize("name", ASKED)
def test_every_text_matches_its_constraint_alone_and_in_a_batch(worker: LoneWorker, name: str) -> None:
    alone = answers(worker, plain=PLAIN)["plain"]
    bodies = {way: body(name, way) for way in WAYS}
    found = answers(worker, plain=PLAIN, **bodies)
    assert found.pop("plain") == alone
    for way, choices in found.items():
        for choice in choices:
            assert choice.finish is not None and choice.finish.reason == "stop", (way, choice.text)
            ASKED[name][1](choice.text)
    texts = {choice.text for choices in found.values() for choice in choices}
    assert len(texts) >= 3
    assert {way: answers(worker, one=bodies[way])["one"] for way in ("hot", "late")} == {
        way: found[way] for way in ("hot", "late")
    }


def test_a_stop_string_cuts_the_text(worker: LoneWorker) -> None:
    fields = {"structured_outputs": {"regex": "(abc|xyz){5}"}, "stop": ["z"], "seed": 2}
    (choice,) = answers(worker, one={**fields, "max_tokens": 60})["one"]
    assert choice.finish == Finish("stop", "z") and re.fullmatch("(abc)*xy", choice.text)


def test_a_stop_token_ends_the_text_where_it_may_come(worker: LoneWorker) -> None:
    fields = {"structured_outputs": {"regex": "[ -~]{50}"}, "stop_token_ids": [ONE]}
    biased = {**fields, "logit_bias": {str(ONE): 100}, "max_tokens": 60}
    (choice,) = answers(worker, one=biased)["one"]
    assert (choice.finish, choice.text, choice.end) == (Finish("stop", ONE), "", 1)


def test_a_text_that_is_too_long_is_cut_at_the_limit(worker: LoneWorker) -> None:
    (choice,) = answers(worker, one={"structured_outputs": {"regex": "a{100}"}, "max_tokens": 5})["one"]
    assert (choice.finish, choice.text) == (Finish("length"), "aaaaa")


def test_the_last_token_of_the_limit_may_complete_the_text(worker: LoneWorker) -> None:
    (choice,) = answers(worker, one={"structured_outputs": {"regex": "a{5}"}, "max_tokens": 5})["one"]
    assert (choice.finish, choice.text) == (Finish("stop"), "aaaaa")


def test_a_grammar_that_the_model_cannot_write_fails_alone(worker: LoneWorker) -> None:
    """Only special tokens could go on, and they are never drawn."""
    stuck = worker.resolve({"structured_outputs": {"grammar": 'start: "a" <[0]> "b"'}, "max_tokens": 9})
    worker.engine.prepare(stuck)
    worker.add("plain", worker.resolve(PLAIN))
    worker.engine.add("stuck", stuck)
    errors = {}
    while worker.engine.has_work:
        for output in worker.engine.step():
            worker.released.setdefault(output.request_id, []).extend(output.choices)
            if output.error is not None:
                errors[output.request_id] = output.error.code
    assert errors == {"stuck": "grammar_failed"}
    assert worker.answer("plain", 1) == answers(worker, plain=PLAIN)["plain"]


def test_a_grammar_that_is_none_is_refused_before_it_is_taken(worker: LoneWorker) -> None:
    request = worker.resolve({"structured_outputs": {"regex": "["}})
    for take in (worker.engine.prepare, lambda request: worker.engine.add("bad", request)):
        with pytest.raises(RequestError) as caught:
            take(request)
        assert caught.value.info.param == "structured_outputs.regex"
    assert not worker.engine.has_work

"""workers.engine.constraints.finite_grammar."""

from __future__ import annotations

import json

import pytest

from shared.domain.constraint import Constraint
from workers.engine.constraints.finite_grammar import endless_start
from workers.engine.constraints.grammar import GrammarError, compile_grammar, make_tokenizer


@pytest.mark.parametrize(
    "grammar",
    [
        'start: "a" start',
        'start: "a" x\nx: "b" x  // endless',
        'start: x | y\nx: "(" (y | x)+\ny: x{2,3}',
        'start: A x\nA: /a/\nx: "b" (x)\n | "c" x',
    ],
)
def test_a_grammar_without_finite_text_is_found(grammar: str) -> None:
    assert endless_start(grammar)


@pytest.mark.parametrize(
    "grammar",
    [
        'start: "a" start | "b"',
        'start: "a" start?',
        'start: ("a" start)*',
        'start: "a" start{0,2}',
        "start: | x\nx: x",
        'start: "a" unknown',
        'start: "a: b" A\nA: /[:|(]x/ & /b/',
        'start[lazy]: "a" start',
        'start: "a" %json {"type": "null"}',
        'start: ("a"',
        "x: x",
        "",
    ],
)
def test_another_grammar_and_unknown_syntax_pass(grammar: str) -> None:
    assert not endless_start(grammar)


@pytest.mark.parametrize("grammar", ['start: "a" start', 'root ::= "a" x\nx ::= "b" x'])
def test_such_a_grammar_is_refused(grammar: str) -> None:
    tokenizer = make_tokenizer([bytes([byte]) for byte in range(256)])
    with pytest.raises(GrammarError, match="no finite text"):
        compile_grammar(tokenizer, Constraint("grammar", grammar, "guided_grammar"))
    compile_grammar(tokenizer, Constraint("choice", json.dumps([grammar]), "guided_choice"))

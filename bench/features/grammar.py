"""Compares two grammar libraries on a model's tokenizer: llguidance, which Baton uses, and xgrammar.

    python -m bench.features.grammar [--model DIR] [--rounds N]

Baton does not depend on xgrammar. It is measured if it can be imported:

    pip install --no-deps --target /tmp/xgrammar xgrammar apache-tvm-ffi
    PYTHONPATH=/tmp/xgrammar python -m bench.features.grammar

The texts are typical model output. The mask is timed at each of their tokens. `first` is the first text after a
grammar was compiled, when its caches are empty.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from transformers import AutoTokenizer

from bench.harness.spread import spread
from shared.domain.constraint import Constraint
from workers.engine.constraints.grammar import compile_grammar
from workers.engine.constraints.vocabulary import Vocabulary

_PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
ARTICLE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "title": {"type": "string", "maxLength": 80},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 8},
        "author": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "email": {"type": "string", "pattern": r"^[a-z0-9.]+@[a-z0-9]+\.[a-z]{2,4}$"},
            },
            "required": ["name", "email"],
            "additionalProperties": False,
        },
        "score": {"type": "number"},
    },
    "required": ["id", "title", "tags", "author", "score"],
    "additionalProperties": False,
}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "two fields": (_PERSON, '{"name": "Alice Johnson of Wonderland", "age": 34}'),
    "nested": (
        ARTICLE,
        '{"id": 17, "title": "The quick brown fox jumps over the lazy dog", "tags": ["red", "blue"], '
        '"author": {"name": "Bob Brown", "email": "bob.brown@example.com"}, "score": 3.75}',
    ),
    "any object": ({"type": "object"}, '{"a": [1, 2, {"b": null}], "name": "hello world", "x": {"y": true}}'),
}


class Walk(Protocol):
    """A text that is being generated."""

    def mask(self) -> object: ...
    def take(self, token_id: int) -> bool: ...


Compile = Callable[[str], Callable[[], Walk]]


class _LLGuidance:
    def __init__(self, matcher: Any) -> None:
        self.mask = matcher.compute_bitmask
        self.take = matcher.consume_token


def llguidance(tokenizer: Any, size: int) -> Compile:
    vocabulary = Vocabulary.of(tokenizer.backend_tokenizer, size)

    def compiled(schema: str) -> Callable[[], Walk]:
        matcher = compile_grammar(vocabulary.tokenizer, Constraint("json_schema", schema, "bench"))
        return lambda: _LLGuidance(matcher.deep_copy())

    return compiled


class _XGrammar:
    def __init__(self, matcher: Any, mask: Any) -> None:
        self.mask = lambda: matcher.fill_next_token_bitmask(mask, 0)
        self.take = matcher.accept_token


def xgrammar(tokenizer: Any, size: int) -> Compile:
    library = importlib.import_module("xgrammar")
    info = library.TokenizerInfo.from_huggingface(tokenizer, vocab_size=size)
    compiler = library.GrammarCompiler(info, max_threads=2, cache_enabled=False)
    mask = library.allocate_token_bitmask(1, size)

    def compiled(schema: str) -> Callable[[], Walk]:
        grammar = compiler.compile_json_schema(schema)
        return lambda: _XGrammar(library.GrammarMatcher(grammar), mask)

    return compiled


LIBRARIES: dict[str, Callable[[Any, int], Compile]] = {"llguidance": llguidance, "xgrammar": xgrammar}


def footprint(name: str) -> str:
    """The size of its files, and its requirements."""
    files = metadata.files(name) or []
    size = sum(Path(str(file.locate())).stat().st_size for file in files if Path(str(file.locate())).exists())
    required = [one.split(";")[0] for one in metadata.requires(name) or [] if "extra ==" not in one]
    return f"{size / 1e6:.1f} MB of files; requires {', '.join(required) or 'nothing'}"


def walk(begin: Callable[[], Walk], token_ids: Sequence[int]) -> list[float]:
    """The time of each mask in microseconds."""
    text, times = begin(), []
    for token_id in token_ids:
        start = time.perf_counter()
        text.mask()
        times.append((time.perf_counter() - start) * 1e6)
        assert text.take(token_id), "the text does not match"
    return times


def replay(begin: Callable[[], Walk], token_ids: Sequence[int]) -> float:
    """The time in microseconds to replay a whole text, as after a crash."""
    text, start = begin(), time.perf_counter()
    for token_id in token_ids:
        text.take(token_id)
    return (time.perf_counter() - start) * 1e6


def report(compiled: Compile, tokenizer: Any, rounds: int) -> None:
    for case, (schema, text) in CASES.items():
        token_ids = tokenizer.encode(text, add_special_tokens=False)
        compiling, first, later, replayed = [], [], [], []
        for _ in range(rounds):
            start = time.perf_counter()
            begin = compiled(json.dumps(schema))
            compiling.append((time.perf_counter() - start) * 1e3)
            first += walk(begin, token_ids)
            later += walk(begin, token_ids)
            replayed.append(replay(begin, token_ids))
        print(f"  {case} ({len(token_ids)} tokens)")
        print(f"    compile        {spread(compiling)} ms")
        print(f"    mask, first    {spread(first, 0)} us, mean {statistics.mean(first):.0f}")
        print(f"    mask, later    {spread(later, 0)} us, mean {statistics.mean(later):.0f}")
        print(f"    replay         {spread(replayed, 0)} us", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, default=Path(".baton/models/SmolLM2-135M-Instruct"))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    print("minimum / median / maximum")
    for name, load in LIBRARIES.items():
        if find_spec(name) is None:
            print(f"{name}: not installed")
            continue
        start = time.perf_counter()
        compiled = load(tokenizer, len(tokenizer))
        print(
            f"{name}: {footprint(name)}; {(time.perf_counter() - start) * 1e3:.0f} ms to import and initialize"
        )
        report(compiled, tokenizer, arguments.rounds)


if __name__ == "__main__":
    main()

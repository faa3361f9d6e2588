from __future__ import annotations

import json
from collections.abc import Iterator
from threading import Thread

import pytest

from shared.domain.constraint import Constraint
from shared.errors import RequestError
from tests.unit.workers.engine.constraints.test_grammar_sandbox import HOSTILE, children
from tests.unit.workers.engine.constraints.test_matcher import END, VOCABULARY, allowed
from workers.engine.constraints.grammar_cache import MAX_GRAMMARS, GrammarCache
from workers.engine.constraints.vocabulary import Vocabulary


@pytest.fixture
def cache() -> Iterator[GrammarCache]:
    cache = GrammarCache(lambda: VOCABULARY)
    yield cache
    cache.close()


def choice(*choices: str, field: str = "structured_outputs.choice") -> Constraint:
    return Constraint("choice", json.dumps(choices), field)


def test_a_prepared_grammar_starts_many_texts(cache: GrammarCache) -> None:
    preparing = Thread(target=cache.prepare, args=[choice("a", "b")])
    preparing.start()
    preparing.join(30)
    assert choice("a", "b") in cache
    one, other = cache.begin(choice("a", "b"), (END,)), cache.begin(choice("a", "b", field="other"), (END,))
    one.push(ord("a"))
    assert allowed(one) == {END} and one.is_complete
    assert allowed(other) == {ord("a"), ord("b")}
    assert len(cache) == 1


def test_a_grammar_prepared_elsewhere_is_compiled_without_the_sandbox(cache: GrammarCache) -> None:
    assert allowed(cache.begin(choice("a"), (END,))) == {ord("a")}
    assert children() == []


def test_an_error_names_the_field_and_is_cached(cache: GrammarCache) -> None:
    hostile = json.dumps(HOSTILE["deep"])
    for field in ("response_format", "structured_outputs.json"):
        with pytest.raises(RequestError, match="64 MiB") as caught:
            cache.prepare(Constraint("json_schema", hostile, field))
        info = caught.value.info
        assert (info.status, info.code, info.param) == (400, "invalid_grammar", field)
        # The process that it ended is not started for it again.
        assert children() == []
    with pytest.raises(RequestError, match="64 MiB"):
        cache.begin(Constraint("json_schema", hostile, "x"), ())


@pytest.mark.parametrize("is_prepared", [True, False])
def test_an_invalid_grammar_is_reported(cache: GrammarCache, is_prepared: bool) -> None:
    bad = Constraint("regex", "[", "structured_outputs.regex")
    with pytest.raises(
        RequestError, match=r"'structured_outputs.regex': unclosed character class\."
    ) as caught:
        if is_prepared:
            cache.prepare(bad)
        else:
            cache.begin(bad, ())
    assert (caught.value.info.code, caught.value.info.param) == ("invalid_grammar", bad.field)


def test_only_the_most_recent_grammars_are_kept() -> None:
    made: list[Vocabulary] = []

    def make() -> Vocabulary:
        made.append(VOCABULARY)
        return VOCABULARY

    cache = GrammarCache(make)
    for i in range(MAX_GRAMMARS + 10):
        cache.begin(choice(f"{i}"), ())
        cache.begin(choice("first"), ())
    assert len(cache) == MAX_GRAMMARS
    assert choice("first") in cache and choice("1") not in cache
    assert len(made) == 1

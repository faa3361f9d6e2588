from __future__ import annotations

from shared.domain.sampling import SamplingParams
from workers.engine.scheduling.prefix_cache import SPAN, PrefixCache, prefix_root
from workers.engine.scheduling.sequence import Sequence


def sequence(
    *token_ids: int, owner: str | None = "ann", revision: str = "r", num_computed: int | None = None
) -> Sequence:
    """A sequence that is fully computed by default."""
    sampling = SamplingParams(max_tokens=1, seed=0)
    made = Sequence("r", 0, sampling, list(token_ids), len(token_ids))
    made.prefix_root = None if owner is None else prefix_root(owner, revision)
    made.num_computed = len(token_ids) if num_computed is None else num_computed
    return made


def span(start: int, end: int) -> str:
    return f"{start}-{end}"


def holding(*sequences: Sequence, max_spans: int = 10) -> PrefixCache[str]:
    subject = PrefixCache[str](max_spans * SPAN)
    for each in sequences:
        subject.keep(each, span)
    return subject


def test_only_whole_computed_spans_are_kept() -> None:
    tokens = range(200)
    subject = holding(sequence(*tokens, num_computed=191))
    assert subject.num_tokens == 128
    found = sequence(*tokens, num_computed=0)
    found.num_computed = subject.find(found)
    assert found.num_computed == 128
    assert subject.spans(found) == ["0-64", "64-128"]
    assert (subject.hits, subject.misses, subject.saved_tokens) == (1, 0, 128)


def test_the_last_token_is_never_found() -> None:
    subject = holding(sequence(*range(128)))
    assert subject.find(sequence(*range(128))) == 64
    assert subject.find(sequence(*range(129))) == 128


def test_a_span_is_found_only_after_the_same_prefix() -> None:
    subject = holding(sequence(*range(192)))
    assert subject.find(sequence(-1, *range(1, 192), 5)) == 0
    assert subject.find(sequence(*range(64), -1, *range(65, 192), 5)) == 64


def test_prefixes_of_other_owners_and_models_are_not_found() -> None:
    tokens = range(100)
    subject = holding(sequence(*tokens))
    assert subject.find(sequence(*tokens, owner="bob")) == 0
    assert subject.find(sequence(*tokens, revision="other")) == 0
    assert subject.find(sequence(*tokens, owner=None)) == 0
    assert subject.find(sequence(*tokens)) == 64
    assert (subject.hits, subject.misses) == (1, 2)
    assert holding(sequence(*tokens, owner=None)).num_tokens == 0


def test_least_recently_used_spans_are_evicted_from_the_end() -> None:
    old, new = sequence(*range(193)), sequence(*range(1000, 1129))
    subject = holding(old, new, max_spans=5)
    assert subject.find(old) == 192
    subject.keep(sequence(*range(2000, 2064)), span)
    assert subject.num_tokens == 5 * SPAN
    assert (subject.find(old), subject.find(new)) == (192, 64)


def test_a_prefix_longer_than_the_cache_is_kept_in_part() -> None:
    subject = holding(sequence(*range(1000)), max_spans=3)
    assert subject.num_tokens == 3 * SPAN
    assert subject.find(sequence(*range(1000))) == 3 * SPAN

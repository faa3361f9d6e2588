"""workers.engine.sampling.sampler."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.unit.workers.engine.constraints.test_matcher import TOKENS, begin
from tests.unit.workers.engine.sampling_reference import (
    adjusted_logits,
    assert_distributed,
    distribution,
    params,
)
from workers.engine.constraints.token_filter import TokenFilter
from workers.engine.sampling.logit_adjustments import LogitAdjustments
from workers.engine.sampling.native_draw import draw_natively
from workers.engine.sampling.numerics import NumericalError
from workers.engine.sampling.row import SampleRow, uniforms
from workers.engine.sampling.sampler import Drawn, Sampler
from workers.native.ops import native_library

#: Enough draws for a test of a distribution.
_DRAWS = 4000
#: Each parameter alone, all of them, and pairs whose order matters.
_CUTS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.5},
    {"temperature": 2.0},
    {"top_p": 0.9},
    {"top_p": 0.6, "temperature": 1.7},
    {"top_p": 0.9999},
    {"top_k": 1},
    {"top_k": 3},
    {"top_k": 300},
    {"min_p": 0.1},
    {"min_p": 1.0},
    {"min_p": 0.01, "temperature": 3.0},
    {"top_k": 4, "top_p": 0.7},
    {"top_k": 300, "top_p": 0.95, "temperature": 4.0},
    {"min_p": 0.05, "top_p": 0.8, "temperature": 3.0},
    {"min_p": 0.2, "top_k": 350, "temperature": 3.0},
    {"min_p": 0.02, "top_k": 5, "top_p": 0.9, "temperature": 1.5},
]


@pytest.fixture(autouse=True, scope="module", params=["torch", "native"])
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs each test with both draw functions."""
    if request.param == "native" and native_library() is None:
        pytest.skip("no C compiler here")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "native":
            patch.setattr(Sampler.__init__, "__defaults__", (draw_natively,))
        yield


def row(seed: int = 0, choice: int = 0, position: int = 0, **changed: Any) -> SampleRow:
    return SampleRow(params(seed=seed, **changed), choice, position)


def adjustments(one: SampleRow, output: list[int], **changed: Any) -> LogitAdjustments | None:
    penalties = {"repetition_penalty": 1.5, "frequency_penalty": 1.0}
    return LogitAdjustments.of(params(**{**penalties, **changed}), [4], [one.choice], output)


def sample(logits: Tensor, rows: Sequence[SampleRow]) -> list[Drawn]:
    """What a sampler draws from usable logits."""
    drawn = Sampler().sample(logits, rows)
    usable = [one for one in drawn if isinstance(one, Drawn)]
    assert len(usable) == len(drawn)
    return usable


def draw(logits: Tensor, rows: Sequence[SampleRow]) -> list[int]:
    return [drawn.token_id for drawn in sample(logits, rows)]


def draw_many(logits: Tensor, num: int = _DRAWS, **changed: Any) -> list[int]:
    """`num` draws from one distribution, each with its own seed."""
    return draw(logits.expand(num, -1), [row(seed, **changed) for seed in range(num)])


def random_logits(num_rows: int, num_tokens: int, seed: int = 1) -> Tensor:
    return torch.randn(num_rows, num_tokens, generator=torch.Generator().manual_seed(seed)) * 3


@pytest.mark.parametrize("cut", _CUTS, ids=str)
@pytest.mark.parametrize("num_tokens", [5, 400, 6000])
def test_draws_follow_the_distribution(num_tokens: int, cut: dict[str, Any]) -> None:
    logits = random_logits(1, num_tokens)
    tokens = draw_many(logits, _DRAWS if num_tokens < 1000 else 600, **cut)
    assert_distributed(tokens, distribution(logits[0].double().numpy(), params(**cut)))


@pytest.mark.parametrize("cut", _CUTS, ids=str)
def test_exactly_the_kept_tokens_can_be_drawn(cut: dict[str, Any]) -> None:
    logits = (random_logits(1, 12) / 3 * 4).round() / 4
    kept = distribution(logits[0].double().numpy(), params(**cut)).nonzero()[0]
    assert set(draw_many(logits, 20_000, **cut)) == set(kept.tolist())


@pytest.mark.parametrize("part", ["choice", "position"])
def test_choices_and_positions_of_one_seed_draw_independently(part: str) -> None:
    logits = random_logits(1, 50)
    tokens = draw(logits.expand(_DRAWS, -1), [row(7, **{part: i}) for i in range(_DRAWS)])
    assert_distributed(tokens, distribution(logits[0].double().numpy(), params()))


def test_a_nucleus_ends_with_the_token_that_reaches_top_p() -> None:
    logits = torch.zeros(1, 4)
    assert set(draw_many(logits, 200, top_p=0.5)) == {0, 1}
    assert set(draw_many(logits, 200, top_p=0.51)) == {0, 1, 2}


@pytest.mark.parametrize(
    "cut",
    [
        {"top_p": 0.3},
        {"top_p": 0.999},
        {"top_k": 257},
        {"top_k": 5000, "top_p": 0.9},
        {"top_k": 5000, "min_p": 0.75},
        {"top_p": 0.7, "min_p": 0.7},
        {"min_p": 0.7},
    ],
    ids=str,
)
def test_tokens_kept_beyond_the_first_candidates_are_exact(cut: dict[str, Any]) -> None:
    logits = random_logits(1, 9000) / 30
    probabilities = distribution(logits[0].double().numpy(), params(**cut))
    assert (probabilities > 0).sum() > 256
    assert_distributed(draw_many(logits, 1000, **cut), probabilities)


def test_top_k_keeps_no_more_than_k_equal_tokens() -> None:
    assert set(draw_many(torch.zeros(1, 1000), 300, top_k=3)) == {0, 1, 2}
    assert set(draw_many(torch.zeros(1, 1000), 3000, top_k=260)) == set(range(260))


@pytest.mark.parametrize("top_k", [10, 11, 10**9])
def test_top_k_of_all_tokens_keeps_all(top_k: int) -> None:
    assert set(draw_many(torch.zeros(1, 10), 500, top_k=top_k)) == set(range(10))


def test_equal_logits_are_ordered_by_id_in_and_beyond_the_candidates() -> None:
    logits = torch.zeros(1, 1000)
    logits[0, 500:] = 5.0
    assert set(draw_many(logits, 2000, top_p=0.1)) == set(range(500, 551))
    assert set(draw_many(logits, 4000, top_p=0.4)) <= set(range(500, 702))
    logits[0, 501] = -0.0
    logits[0, 500] = 0.0
    assert set(draw_many(-logits.abs(), 50, temperature=1e-4, top_p=0.01)) == set(range(6))


def test_greedy_takes_the_first_most_likely_token() -> None:
    logits = torch.tensor([[0.0, 2.0, 2.0, 1.0], [3.0, 3.0, 3.0, 3.0], [0.0, 1.0, 2.0, 3.0]])
    assert draw(logits, [row(temperature=0.0)] * 3) == [1, 0, 3]
    wide = torch.zeros(1, 50_000)
    wide[0, [40_000, 777, 49_999]] = 1.0
    assert draw(wide, [row(temperature=0.0)]) == [777]


@pytest.mark.parametrize("top_p", [0.9, 1.0])
@pytest.mark.parametrize("temperature", [1e-300, 1e-6, 1e-3])
def test_a_tiny_temperature_takes_the_most_likely_token(temperature: float, top_p: float) -> None:
    logits = random_logits(20, 300)
    rows = [row(seed, temperature=temperature, top_p=top_p) for seed in range(20)]
    assert draw(logits, rows) == logits.argmax(-1).tolist()


@pytest.mark.parametrize("top_p", [0.999999, 1.0])
def test_a_huge_temperature_draws_uniformly(top_p: float) -> None:
    tokens = draw_many(random_logits(1, 30), temperature=1e9, top_p=top_p)
    assert_distributed(tokens, np.full(30, 1 / 30))


@pytest.mark.parametrize("num_tokens", [300, 1001, 32_003])
def test_a_draw_is_the_same_alone_and_in_any_batch(num_tokens: int) -> None:
    logits = random_logits(31, num_tokens).bfloat16().float()
    kinds = [(1.0, 1.0), (0.0, 1.0), (1.0, 0.9), (1.5, 0.99), (0.3, 1.0)]
    rows = [row(i, i % 3, i * 7, temperature=kinds[i % 5][0], top_p=kinds[i % 5][1]) for i in range(31)]
    alone = [draw(logits[i : i + 1], [rows[i]])[0] for i in range(31)]
    for size in (2, 3, 8, 31):
        starts = range(0, 31, size)
        parts = [draw(logits[start : start + size], rows[start : start + size]) for start in starts]
        assert list(chain(*parts)) == alone
    order = torch.randperm(31, generator=torch.Generator().manual_seed(3)).tolist()
    assert draw(logits[order], [rows[i] for i in order]) == [alone[i] for i in order]


def test_logits_are_not_changed() -> None:
    logits = random_logits(3, 400)
    before = logits.clone()
    rows = [row(), row(top_p=0.5), row(temperature=0.0)]
    draw(logits, [replace(each, adjustments=adjustments(each, [1, 2, 3])) for each in rows])
    assert torch.equal(logits, before)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"top_p": 0.9},
        {"temperature": 0.0},
        {"top_k": 5, "min_p": 0.1, "logprobs": 3},
        {"frequency_penalty": 0.5},
    ],
)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_row_of_nan_or_infinities_fails_alone(value: float, changed: dict[str, Any]) -> None:
    logits = random_logits(4, 300)
    logits[0] = value
    logits[1, 5] = value
    logits[2, 5:] = value
    rows = [row(i, **changed) for i in range(4)]
    if "frequency_penalty" in changed:
        rows = [replace(each, adjustments=adjustments(each, [7])) for each in rows]
    drawn = Sampler().sample(logits, rows)
    # A logit of minus infinity is a probability of 0.
    num_failed = 1 if value == -math.inf else 3
    assert [isinstance(one, NumericalError) for one in drawn] == [True] * num_failed + [False] * (
        4 - num_failed
    )
    assert drawn[3] == Sampler().sample(logits[3:], rows[3:])[0]


def test_a_row_whose_allowed_tokens_are_impossible_yields_one_of_them() -> None:
    logits = random_logits(2, 300)
    logits[:, :200] = -math.inf
    rule = TokenFilter.of(params(allowed_token_ids=(3, 9)), 300, None)
    drawn = Sampler().sample(logits, [replace(row(temperature=0.0), matcher=rule), row(temperature=0.0)])
    assert not any(isinstance(one, NumericalError) for one in drawn)


def test_impossible_tokens_are_never_drawn() -> None:
    logits = torch.full((1, 400), -math.inf)
    logits[0, [3, 300]] = 0.0
    assert set(draw_many(logits, 300)) == set(draw_many(logits, 300, top_p=0.999)) == {3, 300}


def test_no_rows_give_no_tokens() -> None:
    assert draw(torch.zeros(0, 10), []) == []


def test_random_numbers_of_seed_choice_and_position_never_change() -> None:
    """A worker of another release must be able to continue this one's job."""
    rows = [row(), row(1), row(0, 1), row(0, 0, 1), row(2**63 - 1, 127, 10**6)]
    assert uniforms(rows).tolist() == [
        0.13870941014555427,
        0.6935121390102292,
        0.5803592313314876,
        0.2582654469187293,
        0.880023055333527,
    ]
    assert len(set(uniforms([row(s, c, p) for s in range(9) for c in range(9) for p in range(9)]))) == 729


_IDS = st.integers(0, 299)
_ROW = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**63 - 1),
        "temperature": st.sampled_from([0.0, 0.3, 1.0, 4.0]),
        "top_p": st.sampled_from([1.0, 0.9, 0.3, 0.999]),
        "top_k": st.sampled_from([None, None, 1, 20, 280]),
        "min_p": st.sampled_from([0.0, 0.1, 0.0001]),
        "logprobs": st.sampled_from([None, 0, 5]),
        "repetition_penalty": st.sampled_from([1.0, 1.4]),
        "frequency_penalty": st.sampled_from([0.0, 0.5]),
        "logit_bias": st.lists(_IDS, max_size=3, unique=True).map(lambda ids: tuple((i, 2.5) for i in ids)),
        "min_tokens": st.integers(0, 3),
    }
)
#: (parameters, choice, stop tokens, prompt, output so far)
_SEQUENCES = st.lists(
    st.tuples(
        _ROW,
        st.integers(0, 3),
        st.lists(_IDS, max_size=2),
        st.lists(_IDS, max_size=9),
        st.lists(_IDS, max_size=9),
    ),
    min_size=2,
    max_size=9,
)


def sequence_row(sequence: tuple[Any, ...]) -> SampleRow:
    changed, choice, stops, prompt, output = sequence
    sampling = params(**changed)
    return SampleRow(sampling, choice, len(output), LogitAdjustments.of(sampling, stops, prompt, output))


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures("two_threads")
@settings(max_examples=60, deadline=None)
@given(_SEQUENCES, st.randoms(use_true_random=False), st.sampled_from([1, 8]))
def test_a_row_is_drawn_the_same_in_any_batch_and_order(
    sequences: list[tuple[Any, ...]], chance: Any, steps: int
) -> None:
    """Logits are coarse, so that equal ones are common."""
    logits = (random_logits(len(sequences), 300, chance.randrange(99)) * steps).round() / steps
    rows = [sequence_row(sequence) for sequence in sequences]
    alone = [sample(logits[i : i + 1].clone(), [row])[0] for i, row in enumerate(rows)]
    order = chance.sample(range(len(rows)), len(rows))
    together = sample(logits[order], [rows[i] for i in order])
    assert together == [alone[i] for i in order]


@settings(max_examples=60, deadline=None)
@given(_SEQUENCES)
def test_only_tokens_that_the_reference_keeps_are_drawn(sequences: list[tuple[Any, ...]]) -> None:
    logits = random_logits(len(sequences), 300)
    for i, drawn in enumerate(sample(logits, [sequence_row(each) for each in sequences])):
        changed, _, *tokens = sequences[i]
        adjusted = adjusted_logits(logits[i].tolist(), params(**changed), *tokens)
        if changed["temperature"] == 0:
            assert adjusted[drawn.token_id] == pytest.approx(adjusted.max(), abs=1e-4)
        else:
            assert distribution(adjusted, params(**changed))[drawn.token_id] > 0


def test_draws_with_penalties_follow_the_distribution() -> None:
    logits = random_logits(1, 40) / 3
    changed: dict[str, Any] = {
        "repetition_penalty": 1.5,
        "frequency_penalty": 1.0,
        "min_tokens": 6,
        "temperature": 0.8,
    }
    tokens = [4], [1, 2, 3], [3, 5, 5, 7]
    rows = [replace(row(seed, **changed), position=4) for seed in range(_DRAWS)]
    rows = [replace(each, adjustments=LogitAdjustments.of(each.sampling, *tokens)) for each in rows]
    expected = distribution(
        adjusted_logits(logits[0].tolist(), params(**changed), *tokens), params(**changed)
    )
    assert expected[4] == 0
    assert_distributed(draw(logits.repeat(_DRAWS, 1), rows), expected)


@pytest.mark.parametrize("changed", [{"temperature": 0.0}, {}, {"top_k": 3}, {"top_p": 0.5}], ids=str)
def test_a_row_without_drawable_tokens_gives_the_most_likely_one(changed: dict[str, Any]) -> None:
    logits = random_logits(2, 6)
    barring = LogitAdjustments.of(params(min_tokens=3), range(6), [], [])
    tokens = draw(logits, [replace(row(1, **changed), adjustments=barring), row(1, **changed)])
    assert tokens == [int(logits[0].argmax()), *draw(logits[1:], [row(1, **changed)])]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_log_probabilities_are_the_models_own(temperature: float) -> None:
    logits = random_logits(1, 50)
    asked = row(3, temperature=temperature, top_k=2, logprobs=2, logit_bias=((7, 100.0),))
    asked = replace(asked, adjustments=LogitAdjustments.of(asked.sampling, [], [], []))
    (drawn,) = sample(logits, [asked])
    exact = logits[0].log_softmax(-1)
    assert drawn.token_id == 7 and drawn.scores is not None
    assert drawn.scores.chosen == pytest.approx(float(exact[7]), abs=1e-5)
    assert [token_id for token_id, _ in drawn.scores.top] == exact.topk(2).indices.tolist()


def test_rows_without_logprobs_get_none() -> None:
    drawn = sample(torch.zeros(2, 5), [row(temperature=0.0), row(temperature=0.0, logprobs=0)])
    assert drawn[0] == Drawn(0)
    assert drawn[1].scores is not None and drawn[1].scores.top == ()


@pytest.mark.parametrize("cut", _CUTS, ids=str)
def test_draws_with_a_grammar_follow_the_distribution_of_allowed_tokens(cut: dict[str, Any]) -> None:
    matcher = begin("regex", "[a-m]x")
    logits = random_logits(1, len(TOKENS))
    rows = [SampleRow(params(seed=seed, **cut), 0, 0, matcher=matcher) for seed in range(600)]
    wanted = torch.full_like(logits, -torch.inf)
    wanted[0, ord("a") : ord("m") + 1] = logits[0, ord("a") : ord("m") + 1]
    whole = logits.expand(600, -1).contiguous()
    assert_distributed(draw(whole, rows), distribution(wanted[0].double().numpy(), params(**cut)))
    assert torch.equal(whole, logits.expand(600, -1))


@pytest.mark.parametrize("grammar", [None, "[a-h]x"], ids=["lists alone", "lists and a grammar"])
@pytest.mark.parametrize("cut", [*_CUTS, {"temperature": 0.0}], ids=str)
def test_draws_with_lists_and_a_grammar_follow_the_distribution_of_allowed_tokens(
    cut: dict[str, Any], grammar: str | None
) -> None:
    """Bad words: one of a single token, one whose start ends the output, and one whose start does not."""
    words = ((ord("b"),), (ord("x"), ord("c")), (ord("y"), ord("d")))
    sampling = params(allowed_token_ids=tuple(b"abcdefgxz"), bad_words=words)
    rule = TokenFilter.of(sampling, len(TOKENS), begin("regex", f"x{grammar}") if grammar else None)
    assert rule is not None
    logits = random_logits(1, len(TOKENS))
    wanted = torch.full_like(logits, -torch.inf)
    left = list(b"adefg" if grammar else b"adefgxz")
    wanted[0, left] = logits[0, left]
    rule.push(ord("x"))
    rows = [SampleRow(params(seed=seed, **cut), 0, 1, matcher=rule) for seed in range(600)]
    tokens = draw(logits.expand(600, -1).contiguous(), rows)
    assert_distributed(tokens, distribution(wanted[0].double().numpy(), params(**cut)))


def test_if_all_listed_tokens_are_barred_one_of_them_is_drawn() -> None:
    """As with a grammar: only a stop token is allowed, before `min_tokens`."""
    sampling = params(min_tokens=5, temperature=0.0, allowed_token_ids=(3,))
    stop = LogitAdjustments.of(sampling, [3], [], [])
    one = SampleRow(sampling, 0, 0, stop, TokenFilter.of(sampling, 9, None))
    assert draw(random_logits(1, 9), [one]) == [3]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rows_beside_a_grammar_draw_as_if_alone(temperature: float) -> None:
    logits = random_logits(3, len(TOKENS))
    plain = [row(seed, temperature=temperature) for seed in range(3)]
    mixed = [plain[0], replace(plain[1], matcher=begin("choice", '["z"]')), plain[2]]
    assert draw(logits, mixed) == [draw(logits, plain)[0], ord("z"), draw(logits, plain)[2]]


def test_if_all_tokens_of_a_grammar_are_barred_one_of_them_is_drawn() -> None:
    """The only allowed token is a stop token, which is barred before `min_tokens`."""
    sampling = params(min_tokens=5, temperature=0.0)
    stop = LogitAdjustments.of(sampling, [ord("z")], [], [])
    one = SampleRow(sampling, 0, 0, stop, begin("choice", '["z"]', stop_token_ids=(ord("z"),)))
    assert draw(random_logits(1, len(TOKENS)), [one]) == [ord("z")]


def test_log_probabilities_ignore_the_grammar() -> None:
    logits = random_logits(1, len(TOKENS))
    plain = row(temperature=0.0, logprobs=2)
    (free,) = sample(logits, [plain])
    (bound,) = sample(logits, [replace(plain, matcher=begin("choice", '["z"]'))])
    assert free.scores is not None and bound.scores is not None
    assert bound.token_id == ord("z") and bound.scores.top == free.scores.top
    assert bound.scores.chosen == pytest.approx(logits.log_softmax(-1)[0, ord("z")].item(), abs=1e-5)

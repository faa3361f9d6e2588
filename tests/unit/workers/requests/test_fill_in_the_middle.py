"""workers.requests.fill_in_the_middle."""

from __future__ import annotations

from workers.requests.fill_in_the_middle import FillInTheMiddle


def of(*tokens: str) -> FillInTheMiddle | None:
    """For a vocabulary of these tokens, numbered from 1 on."""
    ids = {token: number for number, token in enumerate(tokens, 1)}
    return FillInTheMiddle.of(ids.get)


def test_the_prefix_comes_first_in_most_families() -> None:
    found = of("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
    assert found is not None and found.prompt([10, 11], [20]) == [1, 10, 11, 2, 20, 3]


def test_the_suffix_comes_first_in_some() -> None:
    codestral = of("[PREFIX]", "[SUFFIX]")
    assert codestral is not None and codestral.prompt([10], [20]) == [2, 20, 1, 10]
    seed = of("<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>")
    assert seed is not None and seed.prompt([10], [20]) == [2, 20, 1, 10, 3]


def test_a_model_without_all_of_the_tokens_has_none() -> None:
    assert of("<fim_prefix>", "<fim_suffix>") is None
    assert of() is None

from __future__ import annotations

import torch

from tests.unit.workers.engine.test_matcher import TOKENS, begin
from workers.engine.token_mask import Constrained, masked


def test_what_is_barred_is_minus_infinity_and_afterwards_what_it_was() -> None:
    # Wider than the vocabulary, by what no token stands for.
    logits = torch.randn(3, len(TOKENS) + 3)
    logits[0, ord("y")] = torch.inf
    before = logits.clone()
    yes = begin()
    yes.push(TOKENS.index(b"ye"))
    with masked(logits, [Constrained(2, yes), Constrained(0, begin())]):
        assert torch.equal(logits[1], before[1])
        assert (logits[2] > -torch.inf).nonzero()[:, 0].tolist() == [ord("s")]
        assert logits[2, ord("s")] == before[2, ord("s")]
        first = {
            ord("y"),
            ord("n"),
            *(i for i, token in enumerate(TOKENS) if token in (b"ye", b"yes", b"no")),
        }
        assert set((logits[0] > -torch.inf).nonzero()[:, 0].tolist()) == first
    assert torch.equal(logits, before)


def test_without_a_grammar_nothing_is_done() -> None:
    logits = torch.randn(2, 5)
    before = logits.clone()
    with masked(logits, []):
        assert torch.equal(logits, before)

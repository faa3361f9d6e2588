from __future__ import annotations

import torch

from tests.unit.workers.engine.constraints.test_matcher import TOKENS, begin
from workers.engine.constraints.token_mask import TokenRule, apply_masks, masks_of
from workers.native.draw import MASK_SURPLUS

#: Wider than the vocabulary, by logits without a token.
WIDTH = len(TOKENS) + 3
FIRST = {ord("y"), ord("n"), *(i for i, token in enumerate(TOKENS) if token in (b"ye", b"yes", b"no"))}


def rules() -> list[TokenRule | None]:
    """Rules of three rows: at the start of `yes` or `no`, unrestricted, and after `ye`."""
    yes = begin()
    yes.push(TOKENS.index(b"ye"))
    return [begin(), None, yes]


def test_barred_tokens_become_minus_infinity_and_others_are_unchanged() -> None:
    logits = torch.randn(3, WIDTH)
    logits[0, ord("y")] = torch.inf
    before = logits.clone()
    masks = masks_of(rules(), WIDTH)
    assert masks is not None
    apply_masks(logits, masks)
    assert torch.equal(logits[1], before[1])
    assert logits[2].isfinite().nonzero()[:, 0].tolist() == [ord("s")]
    assert logits[2, ord("s")] == before[2, ord("s")]
    assert set((logits[0] > -torch.inf).nonzero()[:, 0].tolist()) == FIRST
    assert all(logits[0, token] == before[0, token] for token in FIRST)


def test_a_mask_has_the_surplus_that_operations_may_read() -> None:
    masks = masks_of(rules(), WIDTH)
    assert masks is not None and 8 * masks.shape[1] >= WIDTH + MASK_SURPLUS


def test_without_a_rule_there_are_no_masks() -> None:
    assert masks_of([None, None], WIDTH) is None

"""FillInTheMiddle: prompts for models that were trained to insert text between a prefix and a suffix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

#: Where the suffix stands: after the prefix, or before it.
Order = Literal["prefix first", "suffix first"]


class _Tokens(NamedTuple):
    """The special tokens of one family of models. None: it has no such token."""

    prefix: str
    suffix: str
    middle: str | None
    order: Order = "prefix first"


#: Most specific first. Sources: the models' cards and tokenizers on the hub.
_FAMILIES = (
    _Tokens("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen2.5-Coder, CodeGemma
    _Tokens("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite
    _Tokens("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    _Tokens(
        "<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"
    ),  # DeepSeek-Coder
    _Tokens("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>"),  # Code Llama
    _Tokens("<[fim-prefix]>", "<[fim-suffix]>", "<[fim-middle]>", "suffix first"),  # Seed-Coder
    _Tokens("[PREFIX]", "[SUFFIX]", None, "suffix first"),  # Codestral
)


class FillInTheMiddle:
    """Builds the prompts of one model."""

    def __init__(self, prefix: int, suffix: int, middle: int | None, order: Order) -> None:
        self._prefix = prefix
        self._suffix = suffix
        self._end = [] if middle is None else [middle]
        self._order = order

    @classmethod
    def of(cls, token_to_id: Callable[[str], int | None]) -> FillInTheMiddle | None:
        """None for a model without such tokens."""
        for family in _FAMILIES:
            prefix, suffix = token_to_id(family.prefix), token_to_id(family.suffix)
            middle = None if family.middle is None else token_to_id(family.middle)
            if prefix is None or suffix is None or (middle is None) != (family.middle is None):
                continue
            return cls(prefix, suffix, middle, family.order)
        return None

    def prompt(self, prefix: Sequence[int], suffix: Sequence[int]) -> list[int]:
        """Return the tokens after which the model writes what stands between prefix and suffix."""
        before, after = [self._prefix, *prefix], [self._suffix, *suffix]
        return (
            [*before, *after, *self._end] if self._order == "prefix first" else [*after, *before, *self._end]
        )

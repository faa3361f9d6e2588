"""SamplingParams: how the tokens of a request are drawn."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """The effective sampling of one job: every default is filled in, the seed is drawn.

    A token is a function of (logits, these parameters, choice, position) and of nothing else, so any
    worker draws what another one would have drawn.
    """

    max_tokens: int
    #: Seed of every draw, 0 <= seed < 2**63.
    seed: int
    #: 0 is greedy decoding.
    temperature: float = 1.0
    #: Nucleus sampling: the smallest set of candidates whose probability reaches this, 0 < top_p <= 1.
    top_p: float = 1.0
    #: Strings that end a choice; the text never contains them.
    stop: tuple[str, ...] = ()
    #: Number of choices, each with draws of its own.
    n: int = 1

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0

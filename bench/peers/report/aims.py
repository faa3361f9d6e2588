"""Baton's performance targets relative to the other servers, and whether it reached them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.peers.figures import Cell, Results
from bench.peers.report.tables import spread, table

_BF16_SERVERS = ("llama.cpp BF16", "vLLM", "transformers serve", "LitServe")


@dataclass(frozen=True, slots=True)
class Aim:
    """A target for one figure. The median of the rounds counts."""

    title: str
    figures: Callable[[Results], list[float]]
    must: float | None
    aim: float | None
    #: Whether lower is better.
    is_limit: bool = False

    def verdict(self, figures: Sequence[float]) -> str:
        if not figures:
            return "not measured"
        median = statistics.median(figures)
        for name, wanted in (("must", self.must), ("aim", self.aim)):
            if wanted is not None and not self._reaches(median, wanted):
                return f"{name} missed by {abs(median / wanted - 1):.0%}"
        return "reached"

    def _reaches(self, figure: float, wanted: float) -> bool:
        return figure <= wanted if self.is_limit else figure >= wanted

    def row(self, results: Results) -> list[str]:
        figures, sign = self.figures(results), "at most " if self.is_limit else ""
        wanted = ["-" if one is None else f"{sign}{one:g}" for one in (self.must, self.aim)]
        return [self.title, *wanted, spread(figures), self.verdict(figures)]


def _tokens(streams: int, others: Sequence[str], ours: str = "baton") -> Callable[[Results], list[float]]:
    """Tokens per second relative to the best of `others` in the same round."""

    def figures(results: Results) -> list[float]:
        best: dict[int, float] = {}
        for cell in (cell for name in others for cell in results.of(name, streams)):
            best[cell.round] = max(best.get(cell.round, 0.0), cell.tokens_per_s)
        return _over(results.of(ours, streams), best, lambda cell: cell.tokens_per_s)

    return figures


def _first_token(streams: int, other: str) -> Callable[[Results], list[float]]:
    def figures(results: Results) -> list[float]:
        theirs = {cell.round: cell.first_p50 or 0.0 for cell in results.of(other, streams)}
        return _over(results.of("baton", streams), theirs, lambda cell: cell.first_p50)

    return figures


def _over(
    ours: Sequence[Cell], theirs: Mapping[int, float], figure: Callable[[Cell], float | None]
) -> list[float]:
    """The ratio in each round in which both have the figure."""
    return [
        value / theirs[cell.round]
        for cell in ours
        if (value := figure(cell)) is not None and theirs.get(cell.round)
    ]


_START = Aim(
    "start to first token, s",
    lambda results: [record.start_s for record in results.visits_of("baton")],
    must=None,
    aim=5.0,
    is_limit=True,
)
#: By set.
AIMS: Mapping[str, Sequence[Aim]] = {
    "random": (
        Aim("tokens/s at 1, to the best bfloat16 server", _tokens(1, _BF16_SERVERS), None, 1.0),
        Aim("tokens/s at 8, to the best bfloat16 server", _tokens(8, _BF16_SERVERS), 1.0, 1.3),
        Aim("tokens/s at 32, to the best bfloat16 server", _tokens(32, _BF16_SERVERS), 1.0, 1.2),
        Aim("tokens/s at 32, to the bare loop", _tokens(32, ["bare loop"]), 2.0, None),
        Aim(
            "int8: tokens/s at 1, to llama.cpp Q8_0",
            _tokens(1, ["llama.cpp Q8_0"], "baton quant=int8"),
            None,
            1.0,
        ),
        Aim(
            "first token p50 at 32, to llama.cpp BF16",
            _first_token(32, "llama.cpp BF16"),
            None,
            0.7,
            is_limit=True,
        ),
        _START,
    ),
    "smollm2": (
        Aim("tokens/s at 1, to llama.cpp Q4_1", _tokens(1, ["llama.cpp Q4_1"]), None, 0.8),
        Aim("tokens/s at 8, to llama.cpp Q4_1", _tokens(8, ["llama.cpp Q4_1"]), 1.2, 1.5),
        Aim("tokens/s at 32, to llama.cpp Q4_1", _tokens(32, ["llama.cpp Q4_1"]), 2.3, 2.5),
        _START,
    ),
}


def render_aims(part: str, results: Results) -> str:
    """A table of the targets; empty for a set without any."""
    aims = AIMS.get(part, ())
    headings = ["baton", "must", "aim", "reached: min / median / max", "by the median"]
    return table(headings, [aim.row(results) for aim in aims]) if aims else ""

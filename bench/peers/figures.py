"""The results of one contestant at one number of streams in one round, and of all contestants together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.peers.accounting import Usage
from cli.bench.sample import Sample
from cli.bench.summary import Percentiles

#: If other processes use more cores than this, a row is marked as disturbed.
DISTURBED = 0.1


@dataclass(frozen=True, slots=True)
class Cell:
    """The result at one number of streams. Except for `requests` and `errors`, only complete answers count.

    Times are in milliseconds.
    """

    contestant: str
    streams: int
    round: int
    requests: int
    errors: dict[str, int]
    seconds: float
    tokens: int
    #: Mean prompt length as counted by the server; None if it did not report it.
    prompt_tokens: float | None
    #: Answers with fewer tokens than requested.
    short: int
    first_p50: float | None
    first_p99: float | None
    #: Time between pieces of text. A server that sends two tokens in one piece has fewer and longer gaps.
    gap_p50: float | None
    gap_p99: float | None
    pieces: int
    #: CPU time of the contestant's processes per token.
    cpu_ms_per_token: float | None
    #: Cores used by the load generator, and by all other processes.
    client_cores: float
    other_cores: float

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds

    @property
    def is_disturbed(self) -> bool:
        return self.other_cores > DISTURBED


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One round of a contestant: the time from its start to the first token, and its peak memory."""

    contestant: str
    round: int
    start_s: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Bound:
    """An upper bound that the machine sets."""

    #: The threads and rates that it is based on.
    name: str
    #: By number of streams.
    tokens_per_s: dict[int, float]


@dataclass(frozen=True, slots=True)
class Results:
    """All results for one set of weights."""

    cells: tuple[Cell, ...]
    visits: tuple[RoundRecord, ...]
    #: Version by contestant, in the order of the tables.
    versions: dict[str, str]
    #: Contestants that were not available or failed, with the reason.
    missing: dict[str, str]
    #: For all cores, and for Baton's default number of threads if that is smaller.
    bounds: tuple[Bound, ...] = ()

    @property
    def streams(self) -> list[int]:
        return sorted({cell.streams for cell in self.cells})

    @property
    def names(self) -> list[str]:
        """Contestants with results."""
        return [name for name in self.versions if any(cell.contestant == name for cell in self.cells)]

    def of(self, contestant: str, streams: int) -> list[Cell]:
        """The cells of each round."""
        return [cell for cell in self.cells if (cell.contestant, cell.streams) == (contestant, streams)]

    def visits_of(self, contestant: str) -> list[RoundRecord]:
        return [record for record in self.visits if record.contestant == contestant]


def make_cell(
    contestant: str,
    streams: int,
    round_: int,
    samples: Sequence[Sample],
    num_tokens: int,
    seconds: float,
    used: Usage,
) -> Cell:
    whole = [sample for sample in samples if sample.error is None]
    tokens = sum(sample.num_tokens for sample in whole)
    prompts = [sample.prompt_tokens for sample in whole if sample.prompt_tokens]
    first = Percentiles.of(sample.first_s for sample in whole if sample.first_s is not None)
    gap = Percentiles.of(gap for sample in whole for gap in sample.gaps_s)
    return Cell(
        contestant=contestant,
        streams=streams,
        round=round_,
        requests=len(samples),
        errors=dict(Counter(sample.error for sample in samples if sample.error is not None)),
        seconds=round(seconds, 3),
        tokens=tokens,
        prompt_tokens=sum(prompts) / len(prompts) if prompts else None,
        short=sum(sample.num_tokens < num_tokens for sample in whole),
        first_p50=first.p50 if first else None,
        first_p99=first.p99 if first else None,
        gap_p50=gap.p50 if gap else None,
        gap_p99=gap.p99 if gap else None,
        pieces=sum(len(sample.texts) for sample in whole),
        cpu_ms_per_token=round(1000 * used.tree_s / tokens, 2) if tokens else None,
        client_cores=round(used.own_s / seconds, 3),
        other_cores=round(used.others_s / seconds, 3),
    )

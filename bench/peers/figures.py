"""Figures: what one contestant showed at one number of streams in one round, and in a round as a whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from bench.peers.accounting import Usage
from cli.bench.sample import Sample
from cli.bench.summary import Percentiles

#: Cores used by others; from here on a row is marked as disturbed.
DISTURBED = 0.1


@dataclass(frozen=True, slots=True)
class Cell:
    """Only whole answers count, but for `requests` and `errors`. Times in milliseconds."""

    contestant: str
    streams: int
    round: int
    requests: int
    errors: dict[str, int]
    seconds: float
    tokens: int
    #: Mean length of a prompt, as the server counted it; None where it did not.
    prompt_tokens: float | None
    #: Answers with fewer tokens than were asked for.
    short: int
    first_p50: float | None
    first_p99: float | None
    #: Between pieces of text; a server that sends two tokens as one piece has fewer and longer gaps.
    gap_p50: float | None
    gap_p99: float | None
    pieces: int
    #: Of the contestant's processes, for each token.
    cpu_ms_per_token: float | None
    #: Cores that the load generator used, and that all other processes used.
    client_cores: float
    other_cores: float

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds

    @property
    def is_disturbed(self) -> bool:
        return self.other_cores > DISTURBED


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One round of a contestant: until its first token, and its memory at the end."""

    contestant: str
    round: int
    start_s: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Bound:
    """What the machine allows."""

    #: Threads and rates that it was made of.
    name: str
    #: By the number of streams.
    tokens_per_s: dict[int, float]


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that was measured with one set of weights."""

    cells: tuple[Cell, ...]
    visits: tuple[RequestRecord, ...]
    #: Contestant to version, in the order of the tables.
    versions: dict[str, str]
    #: Contestants that could not be had or failed, and why.
    missing: dict[str, str]
    #: With all cores; then with as many threads as Baton has by default, if those are fewer.
    bounds: tuple[Bound, ...] = ()

    @property
    def streams(self) -> list[int]:
        return sorted({cell.streams for cell in self.cells})

    @property
    def names(self) -> list[str]:
        """Contestants with figures."""
        return [name for name in self.versions if any(cell.contestant == name for cell in self.cells)]

    def of(self, contestant: str, streams: int) -> list[Cell]:
        """Round by round."""
        return [cell for cell in self.cells if (cell.contestant, cell.streams) == (contestant, streams)]

    def visits_of(self, contestant: str) -> list[RequestRecord]:
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

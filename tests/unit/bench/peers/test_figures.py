"""What a cell reports about samples."""

from __future__ import annotations

from array import array

from bench.peers.accounting import Usage
from bench.peers.figures import make_cell
from cli.bench.sample import Sample


def sample(sent: float, texts: list[float], tokens: int | None = None, error: str | None = None) -> Sample:
    return Sample(sent, sent, texts[-1] if texts else sent, array("d", texts), tokens, 64, error)


def test_only_whole_answers_count() -> None:
    samples = [
        sample(0.0, [0.1, 0.2, 0.4], 3),
        sample(0.0, [0.3, 0.4], 2),
        sample(0.0, [0.1], 3, error="timeout"),
    ]
    cell = make_cell("a", 2, 1, samples, 3, 2.0, Usage(tree_s=1.0, own_s=0.1, machine_s=1.5))
    assert (cell.requests, cell.errors, cell.tokens, cell.short) == (3, {"timeout": 1}, 5, 1)
    assert (cell.tokens_per_s, cell.prompt_tokens, cell.pieces) == (2.5, 64.0, 5)
    assert (cell.first_p50, cell.first_p99, cell.gap_p50) == (200.0, 298.0, 100.0)
    assert (cell.cpu_ms_per_token, cell.client_cores, cell.other_cores) == (200.0, 0.05, 0.2)
    assert cell.is_disturbed


def test_a_cell_of_failures_has_no_times() -> None:
    used = Usage(tree_s=1.0, own_s=0.0, machine_s=1.0)
    cell = make_cell("a", 1, 0, [sample(0.0, [], error="cut")], 3, 1.0, used)
    assert (cell.tokens_per_s, cell.first_p50, cell.gap_p99, cell.cpu_ms_per_token) == (0, None, None, None)
    assert (cell.prompt_tokens, cell.is_disturbed) == (None, False)

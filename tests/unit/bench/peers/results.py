"""Results with made-up figures."""

from __future__ import annotations

from typing import Any

from bench.peers.figures import Cell, Results, RoundRecord


def cell(contestant: str, streams: int = 8, round_: int = 0, **changes: Any) -> Cell:
    """1024 tokens in 2 seconds, undisturbed."""
    fields: dict[str, Any] = {
        "requests": 8,
        "errors": {},
        "seconds": 2.0,
        "tokens": 1024,
        "prompt_tokens": 64.0,
        "short": 0,
        "first_p50": 200.0,
        "first_p99": 300.0,
        "gap_p50": 15.0,
        "gap_p99": 20.0,
        "pieces": 1024,
        "cpu_ms_per_token": 3.5,
        "client_cores": 0.02,
        "other_cores": 0.01,
    }
    return Cell(contestant, streams, round_, **{**fields, **changes})


def results(*cells: Cell, **missing: str) -> Results:
    names = list(dict.fromkeys(one.contestant for one in cells))
    visits = tuple(RoundRecord(name, 0, 4.5, 900) for name in names)
    return Results(cells, visits, {name: f"{name} 1.0" for name in names}, missing)

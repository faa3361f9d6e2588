from __future__ import annotations

from tests.acceptance.faults.verdict.checker import Violation
from tests.acceptance.faults.verdict.figures import Usage, figures, spread
from tests.acceptance.faults.verdict.history import Ask, History

ASK = Ask("streamed", seed=7, length=9, max_tokens=100)


def test_figures_of_a_run() -> None:
    history = History(ASK, 0.0, "job_a", num_refused=3, num_without_retry_after=1)
    broken = [Violation("doubled", "job_a", "streamed"), Violation("no end", "job_a", "streamed")]
    found = {
        one.name: one.figure
        for one in figures(
            broken,
            [history],
            {"worker kill": [0.5]},
            {"worker stop": 2, "worker hole": 1, "api kill": 4},
            {"worker": 3, "api": 1},
            ["a key"],
            [Usage("api-0", 50 << 20, 30)],
        )
    }
    assert found["R1 promises broken, of any kind"] == "2"
    assert found["R7 zombies' writes taken (3 workers stopped or cut off)"] == "1"
    assert found["R4, R14 accepted jobs that vanished or never ended"] == "1"
    assert found["R2 the same, a supervised worker killed"].startswith("p50 0.50 s")
    assert found["R3 the same, an API replica killed"] == "not measured"
    assert found["R14 refusals without Retry-After"] == "1 of 3"
    assert found["R5 processes killed"] == "4"
    assert found["R13 keys, leases, readers left over"] == "1"
    assert found["R13 api-0 at the end"] == "50 MiB, 30 fds"


def test_a_spread_is_of_all_values() -> None:
    assert (
        spread([float(n) for n in range(100, 0, -1)])
        == "p50 51.00 s, p99 100.00 s, longest 100.00 s (100 readers)"
    )

"""`python -m tests.acceptance.faults.verdict.goals`: goals R1 to R14 as one table, each beside what was measured.

Figures are those that `make chaos`, `make endure` and `make trials` wrote (--figures); goals that are tests
of their own are run, and counted, here. Behind `make goals`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.acceptance.faults.verdict.figures import Figure

_HERE = "tests/acceptance/faults"
#: Goals that are tests: what, and which.
_TESTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("R6 places between two writes, the process killed at each", (f"{_HERE}/test_failpoints.py",)),
    (
        "R8 a request that kills its worker: three deaths, `worker_lost`, neighbours finish",
        (f"{_HERE}/test_matrix.py::test_a_poisoned_request_fails_alone",),
    ),
    (
        "R9 bad input beside a neighbour's stream, and bodies at random",
        ("tests/acceptance/test_bad_input.py", "tests/integration/api/test_fuzz.py"),
    ),
    (
        "R11 1,000 readers of 32,768 tokens stop reading: 256 KiB each at most, another one gets all; who "
        "stops is cut, who is slow gets all",
        (
            "tests/integration/api/test_stalled_readers.py",
            "tests/integration/api/test_connections.py",
            "tests/unit/api/streaming/test_sse_response.py",
            "tests/unit/api/streaming/test_subscription.py",
        ),
    ),
)
_REFUSED = re.compile(r"^([^\n:]+): .*refused.*\n\s+refused within, p99:\s+(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """A figure, and where it comes from."""

    figure: Figure
    source: str

    @property
    def number(self) -> int:
        """Of its first goal."""
        return int(self.figure.name[1:].split(" ")[0].rstrip(","))


def of_runs(paths: Sequence[Path]) -> Iterator[Row]:
    """Of the files that runs wrote; those that were not measured are left out."""
    for path in paths:
        for name, goal, figure in json.loads(path.read_text())["figures"]:
            if figure != "not measured" and not name.endswith("at the end"):
                yield Row(Figure(name, goal, figure), path.stem)


def of_tests() -> Iterator[Row]:
    """Run them."""
    for name, tests in _TESTS:
        with tempfile.TemporaryDirectory() as directory:
            told = Path(directory) / "told.xml"
            command = [sys.executable, "-m", "pytest", "-q", "-m", "", f"--junitxml={told}", *tests]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
            yield Row(Figure(name, "all pass", counted(told.read_text())), ", ".join(tests))


def counted(told: str) -> str:
    """How many of the tests in a JUnit report passed."""
    suites = list(ElementTree.fromstring(told).iter("testsuite"))
    total = sum(int(suite.get("tests", 0)) for suite in suites)
    bad = sum(int(suite.get(what, 0)) for suite in suites for what in ("errors", "failures", "skipped"))
    return f"{total - bad} of {total} pass"


def of_refusals() -> Iterator[Row]:
    """Goal R10, by its benchmark."""
    command = [sys.executable, "-m", "bench.refusal", "--runs", "3", "--count", "20"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for pace, figure in _REFUSED.findall(told):
        yield Row(Figure(f"R10 a bad body is refused, p99 ({pace})", "50 ms", figure), "bench.refusal")


def show(rows: Sequence[Row], loads: tuple[float, float]) -> str:
    """The page. `loads` of the machine as tests began and ended."""
    ordered = sorted(rows, key=lambda row: (row.number, row.source))
    lines = [
        "# Goals R1 to R14",
        "",
        "Written by `make goals`. How busy the machine was in a run stands in the run's own report; while "
        f"tests and benchmarks ran here, on {os.cpu_count()} CPUs, {loads[0]:.1f} and at last {loads[1]:.1f} "
        "processes ran or waited for one.",
        "",
        "| goal | wanted | measured | in |",
        "|---|---|---|---|",
        *(
            f"| {row.figure.name} | {row.figure.goal} | {row.figure.figure} | {row.source} |"
            for row in ordered
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make goals")
    parser.add_argument("figures", type=Path, nargs="+", help="files that runs wrote with --figures")
    parser.add_argument("--report", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    before = os.getloadavg()[0]
    rows = [*of_runs(arguments.figures), *of_tests(), *of_refusals()]
    page = show(rows, (before, os.getloadavg()[0]))
    sys.stdout.write(page)
    if arguments.report is not None:
        arguments.report.write_text(page)


if __name__ == "__main__":
    main()

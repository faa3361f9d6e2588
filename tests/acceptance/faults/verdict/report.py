"""Report: one run of chaos as a page that a person reads."""

from __future__ import annotations

import itertools
import os
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tests.acceptance.faults.harness.faults import Done
from tests.acceptance.faults.verdict.checker import Violation
from tests.acceptance.faults.verdict.figures import Figure, Usage, figures
from tests.acceptance.faults.verdict.growth import GOAL_MIB, flatness, growth, table
from tests.acceptance.faults.verdict.history import Final, History
from tests.acceptance.faults.verdict.resource_monitor import Readings

#: Violations that are shown in full.
_MOST_SHOWN = 25
#: What was on its way is still read: a silence may begin so long (s) after its cause.
_SOON_S = 0.5
#: Readers that hear tokens one by one.
_LIVE = ("streamed", "events", "polled", "cancelled")


@dataclass(frozen=True)
class Run:
    """What happened."""

    title: str
    seconds: float
    histories: Sequence[History]
    finals: Sequence[Final]
    done: Sequence[Done]
    deaths: dict[str, int]
    violations: Sequence[Violation]
    #: Jobs that never ended, and what was left over.
    leftovers: Sequence[str]
    num_swallowed: int
    usage: Sequence[Usage]
    lease_s: float
    readings: Readings

    @property
    def is_clean(self) -> bool:
        return not self.violations and not self.leftovers

    @property
    def has_grown(self) -> bool:
        """Whether a process that lived long enough misses the goal of memory."""
        return any((one.rss_slope or 0.0) >= GOAL_MIB for one in growth(self.readings))


def gaps(done: Sequence[Done]) -> dict[str, list[float]]:
    """Per kind of fault the longest silences (s) that began when it was done or soon after it, of every
    reader that it touched and that had tokens before and after."""
    found: dict[str, list[float]] = {}
    for fault in done:
        for history in fault.touched:
            times = [one.at for one in history.heard if one.what == "output" and one.end > one.start]
            silences = [
                later - earlier
                for earlier, later in itertools.pairwise(times)
                if later > fault.at and earlier < fault.at + _SOON_S
            ]
            if history.ask.kind in _LIVE and silences and times[0] < fault.at:
                found.setdefault(fault.kind, []).append(max(silences))
    return found


def show(run: Run) -> str:
    """The page, in Markdown."""
    kinds = Counter[str](history.ask.kind for history in run.histories)
    faults = Counter[str](one.kind for one in run.done)
    broken = Counter[str](violation.fault for violation in run.violations)
    tokens = sum(final.completion_tokens for final in run.finals)
    attempts = sum(final.attempts - 1 for final in run.finals if final.attempts > 1)
    excused = [history for history in run.histories if history.is_excused]
    lines = [
        f"# {run.title}",
        "",
        f"- {run.seconds:.0f} s, {len(run.histories)} requests, {len(run.finals)} jobs, {tokens} tokens; "
        f"{sum(h.num_tokens for h in run.histories)} tokens read by clients",
        f"- requests by kind: {_counts(kinds)}",
        f"- readings taken up again {sum(h.num_resumed for h in run.histories)} times; jobs that changed "
        f"hands {attempts} times; {run.num_swallowed} replies of Redis swallowed",
        f"- {len(run.done)} faults; processes that died: {_counts(Counter(run.deaths))}",
        f"- Redis given back an earlier state: {len(excused)} requests were open then, "
        f"{sum(h.is_lost for h in excused)} of them lost their job",
        f"- {os.cpu_count()} CPUs; processes of the whole machine that ran or waited for one meanwhile: "
        f"{_load_of(run.readings)}",
        "",
        "| broken promise | count |",
        "|---|---|",
        *(f"| {name} | {broken[name]} |" for name in _PROMISES),
        f"| left over at the end | {len(run.leftovers)} |",
        "",
        "| fault | times | readers it touched | silence until the next new token: p50 | p99 | longest |",
        "|---|---|---|---|---|---|",
        *_gap_rows(faults, gaps(run.done)),
        "",
        "| goal | wanted | measured |",
        "|---|---|---|",
        *(f"| {one.name} | {one.goal} | {one.figure} |" for one in goals(run)),
        "",
        *table(run.readings),
        "",
        *(f"- {v.fault}: {v.kind} {v.job_id} {v.detail}" for v in run.violations[:_MOST_SHOWN]),
        *(f"- left: {each}" for each in run.leftovers[:_MOST_SHOWN]),
        "all promises held" if run.is_clean else "PROMISES WERE BROKEN",
        "",
    ]
    return "\n".join(lines)


def _load_of(readings: Readings) -> str:
    ordered = sorted(readings.loads)
    return f"{ordered[0]:.1f} to {ordered[-1]:.1f} (median {statistics.median(ordered):.1f})"


def goals(run: Run) -> list[Figure]:
    """Goal beside figure, as far as a run tells them."""
    faults = Counter[str](one.kind for one in run.done)
    found = figures(
        run.violations,
        run.histories,
        gaps(run.done),
        faults,
        run.deaths,
        run.leftovers,
        run.usage,
        lease_s=run.lease_s,
    )
    return [*found, *flatness(run.readings)]


_PROMISES = (
    "lost", "doubled", "changed", "out of order", "no end", "two ends", "after the end", "wrong end",
    "wrong usage", "hung", "vanished", "complaint",
)  # fmt: skip


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common())


def _gap_rows(faults: Counter[str], found: dict[str, list[float]]) -> list[str]:
    rows = []
    for kind, count in [*sorted(faults.items()), ("all", faults.total())]:
        some = sorted(
            found.get(kind, []) if kind != "all" else [gap for gaps_of in found.values() for gap in gaps_of]
        )
        if some:
            p50, p99 = statistics.median(some), some[min(len(some) - 1, round(0.99 * len(some)))]
            rows.append(f"| {kind} | {count} | {len(some)} | {p50:.2f} s | {p99:.2f} s | {some[-1]:.2f} s |")
        else:
            rows.append(f"| {kind} | {count} | 0 | | | |")
    return rows

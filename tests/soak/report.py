"""Report: what a soak showed over time, as a page of docs/reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

#: What the process may grow by from the second quarter of the time to the last, in MiB.
MAX_GROWTH_MIB = 32
_WHY_FIRST = """\
Where products are oneDNN's, memory grows at first: it compiles a product anew for each number of rows and
keeps it, some 0.55 MiB for each number of rows and shape of weights. It ends when all numbers of rows have
been met, up to 256 (`max_step_tokens`). Half of it is oneDNN's primitive cache; with
`ONEDNN_PRIMITIVE_CACHE_CAPACITY=64` the other half, kernels that it never frees, grows alike, and what is
freed in between stays as gaps.
"""


@dataclass(frozen=True, slots=True)
class Moment:
    """Counts since the start; memory as it is then."""

    seconds: int
    same_answers: int
    taken_up: int
    given_up: int
    preempted: int
    tokens_copied: int
    rss_mib: int

    @classmethod
    def heading(cls) -> str:
        names = [field.name.replace("_", " ").replace("rss mib", "RSS, MiB") for field in fields(cls)]
        return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"

    def row(self) -> str:
        return f"| {' | '.join(str(getattr(self, field.name)) for field in fields(self))} |"


def growth_mib(moments: Sequence[Moment]) -> int:
    """Of the largest size, from the second quarter of the time to the last."""
    quarter = len(moments) // 4
    sizes = [moment.rss_mib for moment in moments]
    return max(sizes[-quarter:]) - max(sizes[quarter : 2 * quarter])


def conclusion(moments: Sequence[Moment], places: tuple[int, int]) -> str:
    """`places`: how many sequences ran at once in the engine at its end, and in a new one."""
    last = moments[-1]
    return (
        f"- {last.same_answers} answers, each the one that its request has alone; none was another\n"
        f"- {last.given_up} requests given up, {last.taken_up} taken up in the middle, "
        f"{last.preempted} sequences lost their slot and were read again\n"
        f"- at the end nothing runs or waits; then {places[0]} sequences run at once, in a new engine "
        f"{places[1]}\n"
        f"- growth from the second quarter to the last: {growth_mib(moments)} MiB "
        f"(allowed: {MAX_GROWTH_MIB})\n"
    )


def page(command: str, machine: str, moments: Sequence[Moment], places: tuple[int, int]) -> str:
    rows = "\n".join(moment.row() for moment in moments)
    return (
        f"# The engine alone under random work\n\n`{command}`, {machine}.\n\n"
        f"{conclusion(moments, places)}\n{_WHY_FIRST}\n{Moment.heading()}\n{rows}\n"
    )

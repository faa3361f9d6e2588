"""Report: the course of a soak run, as a page of docs/reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

#: Maximum growth of the process from the second quarter of the time to the last, in MiB.
MAX_GROWTH_MIB = 32
_WHY_FIRST = """\
Where oneDNN computes products, memory grows at first: oneDNN compiles a product for each number of rows and
keeps it, about 0.55 MiB per number of rows and weight shape. The growth ends when all numbers of rows up to
256 (`max_step_tokens`) have occurred. Half of it is oneDNN's primitive cache. With
`ONEDNN_PRIMITIVE_CACHE_CAPACITY=64` the other half, kernels that are never freed, still grows, and freed
memory in between remains as gaps.
"""


@dataclass(frozen=True, slots=True)
class Moment:
    """Counters since the start, and the current memory."""

    seconds: int
    checked_answers: int
    continued: int
    aborted: int
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
    """Growth of the largest size from the second quarter of the time to the last, in MiB."""
    quarter = len(moments) // 4
    sizes = [moment.rss_mib for moment in moments]
    return max(sizes[-quarter:]) - max(sizes[quarter : 2 * quarter])


def conclusion(moments: Sequence[Moment], num_slots: tuple[int, int]) -> str:
    """`num_slots`: how many sequences ran at once in the engine at its end, and in a new one."""
    last = moments[-1]
    return (
        f"- {last.checked_answers} answers, each identical to the one its request gets alone\n"
        f"- {last.aborted} requests aborted, {last.continued} continued in the middle, "
        f"{last.preempted} sequences preempted and prefilled again\n"
        f"- at the end no sequence runs or waits; then {num_slots[0]} sequences run at once, in a new engine "
        f"{num_slots[1]}\n"
        f"- growth from the second quarter to the last: {growth_mib(moments)} MiB "
        f"(allowed: {MAX_GROWTH_MIB})\n"
    )


def page(command: str, machine: str, moments: Sequence[Moment], num_slots: tuple[int, int]) -> str:
    rows = "\n".join(moment.row() for moment in moments)
    return (
        f"# The engine alone under random work\n\n`{command}`, {machine}.\n\n"
        f"{conclusion(moments, num_slots)}\n{_WHY_FIRST}\n{Moment.heading()}\n{rows}\n"
    )

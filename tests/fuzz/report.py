"""Report: a section of docs/reports/fuzz.md for each part."""

from __future__ import annotations

import re
from pathlib import Path

from tests.fuzz.tally import Fault, Tally

_HEAD = """\
# Fuzzing

What `make fuzz` sent, and what came of it. Each section is written by one run: its command repeats it.
A *fault* is a result that must not be; its count says how many attacks had it.
"""
#: Longest example of an attack, in characters.
_MAX_EXAMPLE = 160


def section(title: str, command: str, tally: Tally, seconds: float) -> str:
    """One part's run as a section of the page."""
    lines = [
        f"## {title}\n",
        f"`{command}`, {seconds:.0f} s.\n",
        f"**{tally.num_tried} attacks, {len(tally.ended)} processes ended, {len(tally.faults)} faults.**\n",
        *(f"- {note}" for note in tally.notes),
        *([""] if tally.notes else []),
        "| attacks | number | results |",
        "|---|---|---|",
    ]
    for group, results in sorted(tally.results.items()):
        shown = ", ".join(f"{result}: {count}" for result, count in sorted(results.items()))
        lines.append(f"| {_cell(group)} | {results.total()} | {_cell(shown)} |")
    if tally.faults:
        lines += ["", "| fault | attacks | count | example |", "|---|---|---|---|"]
        lines += [_row(fault) for fault in tally.faults.values()]
    lines += ["", *(f"- ended: {_cell(one)}" for one in tally.ended)]
    return "\n".join(lines).rstrip() + "\n"


def update(page: Path, part: str, text: str) -> None:
    """Put a part's section in place of its last one, or at the end of the page."""
    marked = f"<!-- {part} -->\n{text}<!-- end of {part} -->\n"
    old = page.read_text() if page.exists() else _HEAD
    pattern = re.compile(f"<!-- {part} -->.*?<!-- end of {part} -->\n", re.DOTALL)
    found = pattern.search(old)
    new = f"{old}\n{marked}" if found is None else old[: found.start()] + marked + old[found.end() :]
    page.write_text(new)


def _row(fault: Fault) -> str:
    example = fault.example[:_MAX_EXAMPLE]
    return f"| {_cell(fault.what)} | {_cell(fault.group)} | {fault.count} | `{_cell(example)}` |"


def _cell(text: str) -> str:
    """Text that cannot break a table."""
    plain = "".join(character if character.isprintable() else "·" for character in text)
    return plain.replace("|", "¦").replace("`", "'")

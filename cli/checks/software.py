"""Whether Python and the installed packages are those that Baton was tested with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from cli.checks.finding import Finding

_LEAST_PYTHON = (3, 11)
#: What `baton up` needs of the extras in pyproject.toml.
_EXTRAS = ("api", "worker", "cli")
#: Exact versions; there in a checkout, not in an installed wheel.
_PINS = Path(__file__).parents[2] / "constraints.txt"


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """At least 3.11."""
    text = ".".join(map(str, version))
    if version < _LEAST_PYTHON:
        return Finding("python", "fail", text, "install Python 3.11 or later")
    return Finding("python", "ok", text)


def check_packages(pins: Path = _PINS) -> list[Finding]:
    """Every package that Baton requires is there, in the pinned version where there are pins."""
    missing = [name for name in _required() if _installed(name) is None]
    found: list[Finding] = []
    if missing:
        advice = "`make venv` in a checkout, or pip install 'baton[api,worker,cli]'"
        found.append(Finding("packages", "fail", f"missing: {', '.join(missing)}", advice))
    other = list(_deviations(pins))
    if other:
        advice = f"pip install -c {pins} with the same extras; other versions are not tested"
        found.append(Finding("packages", "warn", "; ".join(other), advice))
    return found or [Finding("packages", "ok", "all there" + (", as pinned" if pins.is_file() else ""))]


def _required() -> Iterator[str]:
    for text in metadata.requires("baton") or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in _EXTRAS):
            yield requirement.name


def _deviations(pins: Path) -> Iterator[str]:
    lines = pins.read_text().splitlines() if pins.is_file() else []
    for line in lines:
        name, is_pin, pinned = line.partition("==")
        installed = _installed(name) if is_pin else None
        # A build says in its version what it was built for: 2.9.0+cpu.
        if installed is not None and installed.partition("+")[0] != pinned.strip():
            yield f"{name} {installed} instead of {pinned.strip()}"


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

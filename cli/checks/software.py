"""Checks that Python and the installed packages are the ones that Baton was tested with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from cli.checks.finding import Finding, refusal
from cli.supervisor.setup.modules import check_modules

_MIN_PYTHON = (3, 11)
#: The extras of pyproject.toml that `baton up` needs.
_EXTRAS = ("api", "worker", "cli")
#: Pinned versions; the file exists in a checkout but not in an installed wheel.
_PINS = Path(__file__).parents[2] / "constraints.txt"


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Checks that Python is 3.11 or later."""
    text = ".".join(map(str, version))
    if version < _MIN_PYTHON:
        return Finding("python", "fail", text, "install Python 3.11 or later")
    return Finding("python", "ok", text)


def check_packages(pins: Path = _PINS) -> list[Finding]:
    """Checks that every required package is installed, in its pinned version if versions are pinned."""
    missing = [name for name in _required() if _installed(name) is None]
    found: list[Finding] = []
    if missing:
        advice = "run `make venv` in the checkout, or pip install 'baton[api,worker,cli]'"
        found.append(Finding("packages", "fail", f"missing: {', '.join(missing)}", advice))
    other = list(_deviations(pins))
    if other:
        advice = f"run pip install -c {pins} with the same extras; other versions are not tested"
        found.append(Finding("packages", "warn", "; ".join(other), advice))
    detail = "all installed" + (", in the pinned versions" if pins.is_file() else "")
    return found or [Finding("packages", "ok", detail)]


def check_shadowing() -> Finding | None:
    """Checks that no other module has the name of one of Baton's packages."""
    advice = "unset PYTHONPATH, or remove that folder from it"
    return refusal("packages", advice, check_modules)


def _required() -> Iterator[str]:
    for text in metadata.requires("baton") or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in _EXTRAS):
            yield requirement.name


def _deviations(pins: Path) -> Iterator[str]:
    lines = pins.read_text(encoding="utf-8").splitlines() if pins.is_file() else []
    for line in lines:
        name, is_pin, pinned = line.partition("==")
        installed = _installed(name) if is_pin else None
        # A build's version may end in what it was built for: 2.9.0+cpu.
        if installed is not None and installed.partition("+")[0] != pinned.strip():
            yield f"{name} {installed} instead of {pinned.strip()}"


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

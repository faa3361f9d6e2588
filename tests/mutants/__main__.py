"""`make mutants`: take out one guard at a time, in a copy of the repository, and see a test fail for it."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from tests.mutants.guard import Guard, PatchDoesNotApply
from tests.mutants.guards import GUARDS

_ROOT = Path(__file__).parents[2]
_REPORT = _ROOT / "docs" / "reports" / "mutants.md"
_LIMIT_S = 300
#: pytest's exit status when tests ran and some failed.
_TESTS_FAILED = 1
_HEAD = """# Guards, each taken out once

`make mutants` removes one guard at a time from a copy of the repository and runs a narrow selection of tests:
at least one must fail. All selections pass with every guard in place.

"""


def main(arguments: list[str]) -> int:
    """0 when every guard is held by a test."""
    options = _parser().parse_args(arguments)
    names = options.names
    guards = [guard for guard in GUARDS if not names or any(name in guard.name for name in names)]
    with tempfile.TemporaryDirectory(prefix="baton-mutants-") as folder:
        root = Path(folder)
        _copy(root)
        if _pytest(root, sorted({test for guard in guards for test in guard.tests})) != 0:
            _say("some of the tests fail with every guard in place")
            return 1
        lines = ["| guard | file | tests | killed | seconds |", "|---|---|---|---|---|"]
        _say("\n".join(lines))
        verdicts = []
        for guard in guards:
            started = time.monotonic()
            verdicts.append(_judge(root, guard))
            lines.append(_row(guard, verdicts[-1], time.monotonic() - started))
            _say(lines[-1])
    if options.write:
        _REPORT.parent.mkdir(exist_ok=True)
        _REPORT.write_text(_HEAD + "\n".join(lines) + "\n")
    return 0 if all(verdict == "yes" for verdict in verdicts) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of guards' names (default: all guards)")
    parser.add_argument("--write", action="store_true", help="write the table to docs/reports/mutants.md")
    return parser


def _copy(root: Path) -> None:
    """What git tracks or would track, as it stands; what is installed is linked."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=_ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (_ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(_ROOT / name, root / name)


def _judge(root: Path, guard: Guard) -> str:
    try:
        text = guard.take_out(root)
    except PatchDoesNotApply as error:
        return f"no: {error}"
    try:
        status = _pytest(root, guard.tests)
    finally:
        (root / guard.file).write_text(text)
    return "yes" if status == _TESTS_FAILED else f"no (pytest: {status})"


def _pytest(root: Path, tests: Iterable[str]) -> int | str:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        *tests,
    ]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("EXAMPLES", None)
    try:
        run = subprocess.run(
            command, cwd=root, env=environment, timeout=_LIMIT_S, stdout=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        return "too slow"
    return run.returncode


def _row(guard: Guard, verdict: str, took_s: float) -> str:
    tests = ", ".join(test.removeprefix("tests/") for test in guard.tests)
    return f"| {guard.name} | {guard.file} | {tests} | {verdict} | {took_s:.0f} |"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

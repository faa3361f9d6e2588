"""The examples of a document in docs/: fenced blocks, as a reader would paste them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: The line before a block that is shown and not run, with the reason.
_NOT_RUN = re.compile(r"<!-- not run: .+ -->")
#: What is there to be read.
_SHOWN = "text"
LIMIT_S = 90


@dataclass(frozen=True, slots=True)
class Example:
    """One block. Those in `sh` see what earlier ones of the same document set, if they are joined."""

    language: str
    code: str


def examples_of(document: Path) -> list[Example]:
    """All that are to be run, in order."""
    found, is_next_run, lines = [], True, iter(document.read_text().splitlines())
    for line in lines:
        if line.startswith("```"):
            language, code = line[3:], []
            for inner in lines:
                if inner == "```":
                    break
                code.append(inner)
            if is_next_run and language not in ("", _SHOWN):
                found.append(Example(language, "\n".join(code)))
            is_next_run = True
        elif _NOT_RUN.fullmatch(line):
            is_next_run = False
    return found


def command_of(example: Example) -> list[str]:
    """What runs it, reading the code from stdin."""
    match example.language:
        case "sh":
            return ["bash", "-eu", "-o", "pipefail", "-s"]
        case "python":
            return [sys.executable, "-"]
        case "js":
            node = shutil.which("node")
            assert node is not None, "node is needed to run the examples in JavaScript"
            return [node, "--input-type=module", "-"]
        case other:
            raise AssertionError(f"nobody knows how to run an example in {other}")


def run(example: Example, directory: Path, environ: Mapping[str, str]) -> str:
    """What it prints. Fails when it fails."""
    ended = subprocess.run(
        command_of(example),
        input=example.code,
        cwd=directory,
        env=dict(environ),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert ended.returncode == 0, f"{example.code}\n---\n{ended.stdout}\n---\n{ended.stderr}"
    return ended.stdout

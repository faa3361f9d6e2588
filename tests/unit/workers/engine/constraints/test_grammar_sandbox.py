"""What would take too long or too much ends a small process, and nothing else."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from shared.domain.constraint import Constraint
from workers.engine.constraints.grammar import GrammarError
from workers.engine.constraints.grammar_sandbox import GrammarSandbox

TOKENS = [bytes([byte]) for byte in range(256)]
GOOD = Constraint("regex", "a+", "field")
#: Thousands of definitions, each of which is the next one: deeper than any stack.
CHAIN = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(3000)} | {"d3000": {}}
HOSTILE = {
    "deep": {"$defs": CHAIN, "$ref": "#/$defs/d0"},
    "large": {"type": "integer", "multipleOf": 999983},
}


@pytest.fixture
def trial() -> Iterator[GrammarSandbox]:
    trial = GrammarSandbox(TOKENS)
    yield trial
    trial.close()


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "grammar_sandbox" in " ".join(child.cmdline())]


def test_what_compiles_passes_and_what_does_not_is_told(trial: GrammarSandbox) -> None:
    trial.check(GOOD)
    (child,) = children()
    with pytest.raises(GrammarError, match="unclosed"):
        trial.check(Constraint("regex", "[", "field"))
    trial.check(GOOD)
    assert children() == [child]


@pytest.mark.parametrize("name", HOSTILE)
def test_what_costs_too_much_is_refused_and_the_next_one_is_tried(trial: GrammarSandbox, name: str) -> None:
    with pytest.raises(GrammarError, match="more than 2 s or 64 MiB"):
        trial.check(Constraint("json_schema", json.dumps(HOSTILE[name]), "field"))
    trial.check(GOOD)


def test_what_is_as_deep_as_people_write_passes(trial: GrammarSandbox) -> None:
    chain = {
        f"d{i}": {"type": "object", "properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}}} for i in range(60)
    }
    schema = {"$defs": {**chain, "d60": {"type": "null"}}, "$ref": "#/$defs/d0"}
    trial.check(Constraint("json_schema", json.dumps(schema), "field"))


def test_what_takes_too_long_is_refused() -> None:
    trial = GrammarSandbox(TOKENS, limit_s=0.2, limit_bytes=2**33)
    with pytest.raises(GrammarError, match=r"more than 0\.2 s"):
        trial.check(Constraint("json_schema", json.dumps(HOSTILE["large"]), "field"))
    assert children() == []


def test_a_process_that_was_killed_is_started_anew(trial: GrammarSandbox) -> None:
    trial.check(GOOD)
    (child,) = children()
    child.kill()
    child.wait(10)
    trial.check(GOOD)
    assert children() != [child]


def test_the_process_ends_with_its_owner() -> None:
    trial = GrammarSandbox(TOKENS)
    trial.check(GOOD)
    (child,) = children()
    trial.close()
    child.wait(10)


def test_the_process_ends_when_its_owner_is_killed() -> None:
    owner = subprocess.run([sys.executable, "-c", OWNER], capture_output=True, timeout=50, text=True)
    assert owner.returncode == -signal.SIGKILL, owner.stderr
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(owner.stdout)).wait(10)


OWNER = """
import os, psutil, signal
from shared.domain.constraint import Constraint
from workers.engine.constraints.grammar_sandbox import GrammarSandbox
trial = GrammarSandbox([b"a"])
trial.check(Constraint("regex", "a", "field"))
(child,) = psutil.Process().children()
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

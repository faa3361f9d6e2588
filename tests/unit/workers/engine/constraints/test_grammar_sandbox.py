"""A grammar that takes too much time or memory ends the sandbox process and nothing else."""

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
#: Thousands of definitions, each a reference to the next one: deeper than any stack.
CHAIN = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(3000)} | {"d3000": {}}
HOSTILE = {
    "deep": {"$defs": CHAIN, "$ref": "#/$defs/d0"},
    "large": {"type": "integer", "multipleOf": 999983},
}


@pytest.fixture
def sandbox() -> Iterator[GrammarSandbox]:
    sandbox = GrammarSandbox(TOKENS)
    yield sandbox
    sandbox.close()


def children() -> list[psutil.Process]:
    return [child for child in psutil.Process().children() if "grammar_sandbox" in " ".join(child.cmdline())]


def test_a_valid_grammar_passes_and_an_invalid_one_is_reported(sandbox: GrammarSandbox) -> None:
    sandbox.check(GOOD)
    (child,) = children()
    with pytest.raises(GrammarError, match="unclosed"):
        sandbox.check(Constraint("regex", "[", "field"))
    sandbox.check(GOOD)
    assert children() == [child]


@pytest.mark.parametrize("name", HOSTILE)
def test_an_expensive_grammar_is_refused_and_the_next_one_is_checked(
    sandbox: GrammarSandbox, name: str
) -> None:
    with pytest.raises(GrammarError, match="more than 2 s or 64 MiB"):
        sandbox.check(Constraint("json_schema", json.dumps(HOSTILE[name]), "field"))
    sandbox.check(GOOD)


def test_a_realistically_deep_schema_passes(sandbox: GrammarSandbox) -> None:
    chain = {
        f"d{i}": {"type": "object", "properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}}} for i in range(60)
    }
    schema = {"$defs": {**chain, "d60": {"type": "null"}}, "$ref": "#/$defs/d0"}
    sandbox.check(Constraint("json_schema", json.dumps(schema), "field"))


def test_a_slow_grammar_is_refused() -> None:
    sandbox = GrammarSandbox(TOKENS, limit_s=0.2, limit_bytes=2**33)
    with pytest.raises(GrammarError, match=r"more than 0\.2 s"):
        sandbox.check(Constraint("json_schema", json.dumps(HOSTILE["large"]), "field"))
    assert children() == []


def test_a_killed_process_is_restarted(sandbox: GrammarSandbox) -> None:
    sandbox.check(GOOD)
    (child,) = children()
    child.kill()
    child.wait(10)
    sandbox.check(GOOD)
    assert children() != [child]


def test_the_process_ends_with_its_owner() -> None:
    sandbox = GrammarSandbox(TOKENS)
    sandbox.check(GOOD)
    (child,) = children()
    sandbox.close()
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
sandbox = GrammarSandbox([b"a"])
sandbox.check(Constraint("regex", "a", "field"))
(child,) = psutil.Process().children()
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""

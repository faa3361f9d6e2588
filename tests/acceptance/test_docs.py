"""What the documents show works: every example is run against a real system."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.cutting_proxy import Cut, cutting
from tests.acceptance.documents import ROOT, Example, examples_of, run
from tests.acceptance.system import START_S, System
from tests.tiny_chat_model import reference_answer

pytestmark = pytest.mark.timeout(300)
#: In the status line, in an id, between an id and its data, in data, between two events. Together they need three
#: events of output, since a slow machine may put many tokens into one.
CUTS = (Cut(b"HTTP/1.1"), Cut(b"\nid: ", 2), Cut(b"\ndata: "), Cut(b'"content":'), Cut(b"}\n\n"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def system(tiny_model: Path) -> Iterator[System]:
    """One with a short context, which ends the answers that the examples do not limit."""
    running = System(tiny_model, MAX_MODEL_LEN="512", PING_S="0.05", READER_GRACE_S="2")
    running.start()
    yield running
    running.remove()


def environ_of(system: System) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
    path = f"{Path(sys.executable).parent}:{own['PATH']}"
    return {**own, "PATH": path, "BATON_HOME": str(system.home), "PYTHONPATH": str(ROOT)}


def for_system(example: Example, system: System) -> Example:
    """The same example with the test's address and model."""
    code = example.code.replace("http://127.0.0.1:8000", system.urls[0])
    return Example(example.language, code.replace("SmolLM2-135M-Instruct", "tiny"))


@pytest.mark.parametrize("document", [d for d in DOCUMENTS if examples_of(d)], ids=lambda d: d.name)
def test_every_example_runs_and_prints_something(document: Path, system: System, tmp_path: Path) -> None:
    for example in examples_of(document):
        assert run(for_system(example, system), tmp_path, environ_of(system)).strip()
    system.wait_until(system.is_ready, START_S)  # one of them takes the worker away and back


@pytest.mark.parametrize("language", ["sh", "python", "js"])
def test_a_stream_that_is_cut_everywhere_is_whole(
    language: str, system: System, tiny_model: Path, tmp_path: Path
) -> None:
    example = next(e for e in examples_of(ROOT / "docs/resume.md") if e.language == language)
    with cutting(int(system.urls[0].rpartition(":")[2]), *CUTS) as proxy:
        through = Example(language, example.code.replace("http://127.0.0.1:8000", proxy.url))
        answer = run(for_system(through, system), tmp_path, environ_of(system))
        assert proxy.is_done
    if language == "sh":
        answer = content_of((tmp_path / "answer").read_text())
    assert answer == reference_answer(tiny_model, "Count from 1 to 30", 40)


def content_of(stream: str) -> str:
    """The text of all chunks that came whole."""
    chunks = re.findall(r"^data: (\{.*\})$", stream, re.MULTILINE)
    return "".join(json.loads(chunk)["choices"][0]["delta"].get("content", "") for chunk in chunks)


def test_every_metric_that_is_named_exists(system: System) -> None:
    named = set(re.findall(r"\bbaton_[a-z_]+", (ROOT / "docs/operations.md").read_text())) - {"baton_"}
    with system.http() as http:
        http.get("/v1/nothing")
        page = http.get("/metrics").text
    families = set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))
    assert named and {name for name in named if name not in families} == set()

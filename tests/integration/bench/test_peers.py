"""The command of `make bench-engine` starts Baton, measures it and writes the page."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from bench.peers.__main__ import main
from bench.peers.report.document import NoMarkers
from tests.tiny_chat_model import make_tiny_chat_model

_PAGE = "# Page\n\n<!-- begin model -->\n<!-- end model -->\n"
_COMMAND = [sys.executable, "-m", "bench.peers"]
WAIT_S = 170


@pytest.mark.timeout(WAIT_S + 10)
def test_baton_alone_on_a_tiny_model(tmp_path: Path) -> None:
    model, page = make_tiny_chat_model(tmp_path / "tiny"), tmp_path / "page.md"
    page.write_text(_PAGE)
    options = ["--model", str(model), "--home", str(tmp_path / "home"), "--document", str(page), "--rivals"]
    sizes = [
        "--streams",
        "1",
        "3",
        "--runs",
        "1",
        "--waves",
        "2",
        "--output-tokens",
        "5",
        "--prompt-tokens",
        "40",
    ]
    done = subprocess.run([*_COMMAND, *options, *sizes], capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| 3 streams | tokens/s |" in done.stdout
    written = page.read_text()
    assert "| 1 stream | tokens/s |" in written and "](page/model.png)" in written
    assert (tmp_path / "page" / "model.png").read_bytes().startswith(b"\x89PNG")
    figures = json.loads((tmp_path / "page" / "model.json").read_text())
    names = ("streams", "requests", "errors", "tokens", "prompt_tokens", "short")
    cells = [tuple(cell[name] for name in names) for cell in figures["cells"]]
    assert cells == [(1, 3, {}, 15, 40.0, 0), (3, 6, {}, 30, 40.0, 0)]
    assert figures["visits"][0]["peak_mib"] > 100 and figures["missing"] == {}


@pytest.mark.timeout(WAIT_S + 10)
def test_whoever_ends_the_command_ends_its_servers(tmp_path: Path) -> None:
    model = make_tiny_chat_model(tmp_path / "tiny")
    options = ["--model", str(model), "--home", str(tmp_path / "home"), "--rivals"]
    with subprocess.Popen([*_COMMAND, *options], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert any("baton, first token after" in line for line in running.stdout)
        running.terminate()
    assert running.returncode == 128 + signal.SIGTERM
    left = [process for process in psutil.process_iter(["cmdline"]) if str(model) in _command_of(process)]
    assert left == []


def _command_of(process: psutil.Process) -> list[str]:
    return process.info["cmdline"] or []


def test_a_page_without_the_part_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page.md").write_text("# Page\n")
    options = ["--home", str(tmp_path / "home"), "--document", str(tmp_path / "page.md")]
    monkeypatch.setattr(sys, "argv", ["bench.peers", *options])
    with pytest.raises(NoMarkers, match="does not contain <!-- begin random -->"):
        main()
    assert not (tmp_path / "home").exists()

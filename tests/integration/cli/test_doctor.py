"""`baton doctor` against a real Redis, and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from cli.exit_codes import ExitCode
from tests.free_port import free_port
from tests.redis_server import RedisServer


def doctor(home: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    ports = {"PORT": str(free_port()), "FLOWER_PORT": str(free_port())}
    named = {f"BATON_{name}": value for name, value in {"HOME": str(home), **ports, **settings}.items()}
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "doctor", *arguments],
        env={"PATH": os.environ["PATH"], **named},
        capture_output=True,
        text=True,
        timeout=40,
    )


def levels(found: list[dict[str, Any]]) -> dict[str, str]:
    """The worst level of each check."""
    order = ("ok", "warn", "fail")
    worst: dict[str, str] = {}
    for finding in found:
        worst[finding["check"]] = max(worst.get(finding["check"], "ok"), finding["level"], key=order.index)
    return worst


def test_a_machine_that_is_well(tmp_path: Path, redis_server: RedisServer) -> None:
    done = doctor(tmp_path / "home", "--json", REDIS_URL=redis_server.url, DEVICES="cpu")
    found = levels(json.loads(done.stdout))
    assert list(found) == [
        "python", "packages", "settings", "home", "redis", "clock", "ports", "devices", "model",
    ]  # fmt: skip
    assert "fail" not in found.values(), done.stdout
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    assert not (tmp_path / "home").exists()


def test_what_is_wrong_comes_with_what_to_do(tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{free_port()}"
    done = doctor(tmp_path, REDIS_URL=url, MODEL="/none/there", DEVICES="cuda:7")
    assert done.returncode == ExitCode.FAILED
    lines = done.stdout.splitlines()
    failed = [line.split()[1] for line in lines if line.startswith("fail")]
    assert failed == ["redis", "devices", "model"]
    assert done.stdout.count("  -> ") >= 3 and "\x1b" not in done.stdout


def test_wrong_settings_are_all_told(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--json", PRT="1", LEASE_S="x")
    found = json.loads(done.stdout)
    assert [f["detail"].split(":")[0] for f in found if f["level"] == "fail"] == [
        "BATON_PRT is not a setting; did you mean BATON_PORT?",
        "BATON_LEASE_S=x",
    ]
    assert done.returncode == ExitCode.FAILED

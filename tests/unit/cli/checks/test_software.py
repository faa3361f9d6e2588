from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from cli.checks.software import check_packages, check_python


def test_an_old_python_fails() -> None:
    assert check_python((3, 10, 4)).level == "fail"
    assert check_python().level == "ok"


def test_packages_are_held_against_the_pins(tmp_path: Path) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text(f"# a comment\nredis=={metadata.version('redis')}\ntyper==0.0.1\nnot-installed==1.0\n")
    (finding,) = check_packages(pins)
    assert (finding.level, finding.detail) == ("warn", f"typer {metadata.version('typer')} instead of 0.0.1")
    pins.write_text(f"redis=={metadata.version('redis')}\n")
    assert [finding.level for finding in check_packages(pins)] == ["ok"]
    assert [finding.detail for finding in check_packages(tmp_path / "none")] == ["all installed"]


def test_a_build_for_a_device_is_as_pinned(tmp_path: Path) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text(f"torch=={metadata.version('torch').partition('+')[0]}\n")
    assert [finding.level for finding in check_packages(pins)] == ["ok"]


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requires = [
        "redis",
        'nothing-like-it>=2; extra == "api"',
        'mypy; extra == "dev"',
        'absent; extra == "dev"',
    ]
    monkeypatch.setattr(metadata, "requires", lambda _: requires)
    (finding,) = check_packages(tmp_path / "none")
    assert (finding.level, finding.detail) == ("fail", "missing: nothing-like-it")

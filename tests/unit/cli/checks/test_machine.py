from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from cli.checks import machine as module
from cli.checks.machine import (
    check_devices,
    check_home,
    check_port_use,
    check_room,
    cpu_features,
    judge_disk,
)
from cli.supervisor.setup.devices import Gpu
from cli.supervisor.setup.home import Home
from cli.supervisor.setup.settings import UpSettings
from shared.host.cpu_info import read_cpu_info
from tests.free_port import free_port

GIB = 1 << 30


@pytest.fixture
def settings(tmp_path: Path) -> UpSettings:
    return UpSettings.read({"BATON_HOME": str(tmp_path)})


def test_a_port_that_is_taken_is_told_with_its_setting(settings: UpSettings, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        asked = replace(settings, port=port, flower_port=free_port())
        (finding,) = check_port_use(asked, Home(tmp_path))
        assert (finding.level, f"port {port}" in finding.detail) == ("fail", True)
        assert finding.advice.endswith("BATON_PORT")
    (same,) = check_port_use(replace(settings, port=5, flower_port=5), Home(tmp_path))
    assert same.level == "fail"


def test_the_ports_of_a_running_baton_up_are_well_used(settings: UpSettings, tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    with home.locked():
        assert [finding.level for finding in check_port_use(settings, home)] == ["ok"]


def test_a_device_that_is_not_there_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = check_devices(("cuda:0", "cuda:3", "cpu"), [Gpu(0, GIB)], {})
    assert (finding.level, finding.detail) == ("fail", "not found: cuda:3")
    (finding,) = check_devices(("cuda:0+cuda:1",), [Gpu(0, GIB)], {})
    assert (finding.level, finding.detail) == ("fail", "not found: cuda:1")
    for is_cpu_build, asked, level in (
        (False, "cuda:0", "ok"),
        (True, "cuda:0", "fail"),
        (True, "cpu", "warn"),
    ):
        monkeypatch.setattr(module, "is_cpu_build_of_torch", lambda: is_cpu_build)  # noqa: B023
        assert [finding.level for finding in check_devices((asked,), [Gpu(0, GIB)], {})] == [level]


def test_features_of_the_cpu(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nflags\t\t: fpu avx avx2 avx512f amx_bf16\n")
    assert cpu_features(read_cpu_info(info)) == ["avx2", "avx512f", "amx_bf16"]
    info.write_text("Features\t: fp asimd sve\n")
    assert cpu_features(read_cpu_info(info)) == ["asimd", "sve"]
    assert cpu_features(read_cpu_info(tmp_path / "none")) is None


def test_a_model_that_does_not_fit_fails(
    settings: UpSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"dtype": "bfloat16"}))
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(2 * GIB)
    on_cpu = replace(settings, devices=("cpu",))
    for free, level in ((GIB, "fail"), (4 * GIB, "ok")):
        monkeypatch.setattr(module, "free_memory", lambda _: {"cpu": free})  # noqa: B023
        assert check_room(tmp_path, on_cpu, [], {}).level == level


def test_a_home_is_this_users_alone(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    assert [finding.check for finding in check_home(Home(home))] == ["home"]
    home.mkdir(parents=True, mode=0o755)
    assert f"chmod 700 {home}" in [finding.advice for finding in check_home(Home(home))]
    home.chmod(0o700)
    assert len(check_home(Home(home))) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written_to_fails(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert [finding.level for finding in check_home(Home(tmp_path))] == ["fail"]


def test_a_home_below_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert [finding.level for finding in check_home(Home(tmp_path / "file" / "home"))] == ["fail"]


def test_a_full_disk() -> None:
    levels = [judge_disk(free, Path("/x")).level for free in (GIB // 4, GIB, 50 * GIB)]
    assert levels == ["fail", "warn", "ok"]

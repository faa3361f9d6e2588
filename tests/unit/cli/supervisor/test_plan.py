from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest

from cli.errors import StartRefused
from cli.supervisor.plan import ChildPlan, plan_children, ports, redis_plan
from cli.supervisor.setup.settings import UpSettings
from shared.host import cores

ENVIRON = {
    "BATON_API_KEYS": "secret",
    "BATON_ADMIN_KEYS": "root",
    "BATON_FLOWER_AUTH": "",
    "BATON_HOME": "/h",
    "BATON_MODEL": "/m",
    "OTHER": "x",
}


def plans(devices: tuple[str, ...], **variables: str) -> dict[str, ChildPlan]:
    environ = {**ENVIRON, **variables}
    return {p.id: p for p in plan_children(UpSettings.read(environ), devices, "u:p", environ)}


def own(plan: ChildPlan) -> Mapping[str, Any]:
    """The environment that only this process gets."""
    return {name: value for name, value in plan.environ.items() if ENVIRON.get(name) != value}


def test_one_api_a_replica_one_worker_a_device_and_flower() -> None:
    found = plans(("cuda:0", "cuda:1"), BATON_API_REPLICAS="2", BATON_PORT="9000")
    assert [(p.role, p.id, p.url, p.device) for p in found.values()] == [
        ("api", "api-1", "http://127.0.0.1:9000", None),
        ("api", "api-2", "http://127.0.0.1:9001", None),
        ("worker", "worker-1", None, "cuda:0"),
        ("worker", "worker-2", None, "cuda:1"),
        ("flower", "flower", "http://127.0.0.1:5555", None),
    ]
    assert found["api-2"].environ["BATON_PORT"] == "9001"
    assert own(found["worker-2"])["BATON_WORKER_NAME"] == "worker-2"
    assert own(found["worker-2"])["BATON_WORKER_DEVICE"] == "cuda:1"


def test_each_part_gets_only_its_own_secret() -> None:
    found = plans(("cpu",))
    assert found["api-1"].environ["BATON_API_KEYS"] == "secret"
    assert found["api-1"].environ["BATON_FLOWER_AUTH"] == ""
    assert found["flower"].environ["BATON_FLOWER_AUTH"] == "u:p"
    for plan in (found["flower"], found["worker-1"], redis_plan(("redis",), "unix:///x", ENVIRON)):
        assert "BATON_API_KEYS" not in plan.environ
        assert "BATON_ADMIN_KEYS" not in plan.environ
    for plan in found.values():
        assert "u:p" not in plan.command


def test_torch_keeps_its_cache_at_home_unless_told_otherwise() -> None:
    assert plans(("cpu",))["worker-1"].environ["TORCHINDUCTOR_CACHE_DIR"] == "/h/torch"
    told = plans(("cpu",), TORCHINDUCTOR_CACHE_DIR="/c")["worker-1"]
    assert told.environ["TORCHINDUCTOR_CACHE_DIR"] == "/c"


def test_workers_on_one_cpu_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert "BATON_THREADS" not in plans(("cpu",))["worker-1"].environ
    assert plans(("cpu", "cpu"))["worker-2"].environ["BATON_THREADS"] == "4"
    assert plans(("cpu", "cpu"), BATON_THREADS="3")["worker-2"].environ["BATON_THREADS"] == "3"


def test_threads_are_shared_out_within_the_quota_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    monkeypatch.setattr(cores, "cpu_quotas", lambda: iter([4.0]))
    assert plans(("cpu", "cpu"))["worker-2"].environ["BATON_THREADS"] == "2"


def test_workers_on_one_device_share_its_memory() -> None:
    assert "BATON_MEMORY_SHARE" not in plans(("cpu", "cuda:0"))["worker-1"].environ
    assert plans(("cpu", "cpu"))["worker-2"].environ["BATON_MEMORY_SHARE"] == "0.5"
    assert plans(("cpu", "cpu"), BATON_MEMORY_SHARE="0.2")["worker-1"].environ["BATON_MEMORY_SHARE"] == "0.2"
    found = plans(("cuda:0", "cuda:0+cuda:1", "cuda:2"))
    shares = [found[f"worker-{number}"].environ.get("BATON_MEMORY_SHARE") for number in (1, 2, 3)]
    assert shares == ["0.5", "0.5", None]


@pytest.mark.parametrize(("port", "flower_port"), [("5554", "5555"), ("65535", "5555")])
def test_ports_that_cannot_be(port: str, flower_port: str) -> None:
    environ = {"BATON_API_REPLICAS": "2", "BATON_PORT": port, "BATON_FLOWER_PORT": flower_port}
    with pytest.raises(StartRefused):
        ports(UpSettings.read(environ))


def test_ports_name_their_setting() -> None:
    read = UpSettings.read({"BATON_API_REPLICAS": "2", "BATON_PORT": "9000"})
    assert ports(read) == {9000: "BATON_PORT", 9001: "BATON_PORT", 5555: "BATON_FLOWER_PORT"}

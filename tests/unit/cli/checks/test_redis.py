from __future__ import annotations

from typing import Any

import pytest

from cli.checks.redis import judge_clock, judge_server

WELL: dict[str, Any] = {
    "redis_version": "7.2.4",
    "cluster_enabled": 0,
    "maxmemory_policy": "noeviction",
    "aof_enabled": 1,
}


@pytest.mark.parametrize(
    ("change", "levels"),
    [
        ({}, ["ok"]),
        ({"redis_version": "6.0.16"}, ["fail"]),
        ({"cluster_enabled": 1}, ["fail"]),
        ({"maxmemory_policy": "allkeys-lru"}, ["fail"]),
        ({"aof_enabled": 0}, ["warn"]),
        ({"redis_version": "5.0", "aof_enabled": 0}, ["fail", "warn"]),
    ],
)
def test_a_server_is_judged_by_what_it_tells(change: dict[str, Any], levels: list[str]) -> None:
    found = judge_server("redis", {**WELL, **change})
    assert [finding.level for finding in found] == levels
    assert all(finding.advice for finding in found if finding.level != "ok")


def test_a_broker_needs_no_file() -> None:
    assert [finding.level for finding in judge_server("broker", {**WELL, "aof_enabled": 0})] == ["ok"]


def test_clocks_may_differ_by_a_second() -> None:
    assert [judge_clock(s).level for s in (0.0, -0.9, 1.5, -30.0)] == ["ok", "ok", "warn", "warn"]

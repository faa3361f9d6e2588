"""All targets get the same chats and take turns in going first. Warm-ups are not counted."""

from __future__ import annotations

from typing import Any

from cli.bench.contest import Contest, Plan
from cli.bench.load import Bounds, Level
from cli.bench.summary import Slo
from cli.bench.target import Target
from cli.bench.workload import Lengths, Workload
from tests.unit.cli.bench.scripted_server import CHUNKED, DONE, ScriptedServer, Step, serving, text, usage

ONE, TWO = Level("concurrency", 1), Level("concurrency", 2)


def plan(*levels: Level, **changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "workload": Workload(Lengths(16, 16), Lengths(4, 4)),
        "levels": levels,
        "requests": 3,
        "duration_s": None,
        "rounds": 2,
        "warm_up": 2,
        "timeout_s": 10.0,
        "slo": Slo(),
    }
    return Plan(**{**fields, **changes})


def answer(number: int) -> list[Step]:
    del number
    return [CHUNKED, text("a"), text("b"), usage(2), DONE]


def target(name: str, server: ScriptedServer) -> Target:
    return Target(name, f"{server.url}/v1", None, "m")


async def test_every_target_gets_the_same_chats_and_warm_ups_are_not_counted() -> None:
    async with serving(answer) as first, serving(answer) as second:
        contest = Contest([target("a", first), target("b", second)], plan(ONE, TWO), lambda _: None)
        summaries = await contest.run()
    assert first.bodies[:2] == second.bodies[:2]  # the warm-up
    asked = [sorted(str(body) for body in server.bodies) for server in (first, second)]
    assert asked[0] == asked[1]
    # 2 warm-ups and 2 rounds of 3 chats at 2 levels, all different.
    assert len(asked[0]) == len(set(asked[0])) == 14
    assert [(one.target, one.level, one.requests, one.tokens, one.errors) for one in summaries] == [
        ("a", ONE, 6, 12, {}),
        ("b", ONE, 6, 12, {}),
        ("a", TWO, 6, 12, {}),
        ("b", TWO, 6, 12, {}),
    ]
    assert all(len(one.rounds) == 2 and one.client_cpu > 0 for one in summaries)
    assert (first.num_connections, second.num_connections) == (2, 2)


async def test_each_target_is_in_turn_the_first() -> None:
    said: list[str] = []
    async with serving(answer) as server:
        targets = [target(name, server) for name in "abc"]
        await Contest(targets, plan(ONE, rounds=3, requests=1, warm_up=0), said.append).run()
    assert [line[0] for line in said] == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]


async def test_failures_are_counted_by_kind_and_nothing_else() -> None:
    async with serving(lambda number: answer(number) if number % 2 else [CHUNKED, text("a")]) as server:
        (summary,) = await Contest(
            [target("a", server)], plan(ONE, rounds=1, requests=4, warm_up=0), lambda _: None
        ).run()
    assert (summary.requests, summary.errors, summary.tokens) == (4, {"cut": 2}, 4)


def test_without_bounds_there_are_some() -> None:
    unbounded = plan(ONE, requests=None)
    assert unbounded.bounds(ONE) == Bounds(16, None)
    assert unbounded.bounds(Level("concurrency", 32)) == Bounds(128, None)
    assert unbounded.bounds(Level("rate", 0.5)) == Bounds(64, None)
    assert plan(ONE, requests=None, duration_s=3.0).bounds(ONE) == Bounds(None, 3.0)

"""The fault matrix, as far as it needs no container: each fault under load, and the promise afterwards."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from shared.store import keys
from tests.acceptance.faults.harness.clients import Client
from tests.acceptance.faults.harness.cluster import Cluster, eventually
from tests.acceptance.faults.harness.faults import Faults
from tests.acceptance.faults.harness.http import Unreachable, fetch, opened
from tests.acceptance.faults.harness.load import Load, Shape, ask_all, draw
from tests.acceptance.faults.harness.plan import FaultKind, Planned, draw_plan
from tests.acceptance.faults.harness.scripted_worker import POISON
from tests.acceptance.faults.verdict.history import Ask, Final, History
from tests.acceptance.faults.verdict.promise import hold_to_promise

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(120),
    pytest.mark.matrix,
]

#: Answers of a second or two, so that faults meet them in their middle.
LONG = Shape(tokens=(150, 300))


async def begin(cluster: Cluster, *, workers: int = 2) -> None:
    await cluster.begin("api", "api-1", "api-2")
    await cluster.begin("worker", *(f"worker-{number}" for number in range(workers)))


async def under_load(
    cluster: Cluster, disturb: Callable[[Faults], Awaitable[None]], *, slots: int = 8, seed: int = 1
) -> dict[str, Final]:
    """Disturb while clients of all kinds ask; the promise holds."""
    load = Load(cluster.urls, cluster.model, LONG, seed=seed, slots=slots, patience_s=60)
    faults = Faults(cluster, load.histories)
    await heard_by(load.histories, 20)
    await disturb(faults)
    return await hold_to_promise(cluster, await load.finish())


async def heard_by(histories: list[History], num_tokens: int) -> None:
    async def has_heard() -> bool:
        return sum(history.num_tokens for history in histories) >= num_tokens

    await eventually(has_heard, 20, f"{num_tokens} tokens")


def once(kind: FaultKind, lasts_s: float = 0.0, amount: int = 5) -> Callable[[Faults], Awaitable[None]]:
    async def disturb(faults: Faults) -> None:
        await faults.do(Planned(0, kind, 0, lasts_s, amount))

    return disturb


@pytest.mark.parametrize("seed", [1, 2])
async def test_twenty_kills(cluster: Cluster, seed: int) -> None:
    """F1, F9, F12, F34: workers, replicas and Redis, whatever the draw says; five reapers at once."""
    await begin(cluster, workers=3)
    for part in cluster.parts:
        part.keep()
    kinds = frozenset[FaultKind](
        {"worker kill", "worker host lost", "all workers kill", "api kill", "redis kill"}
    )
    plan = draw_plan(seed, mean_gap_s=0.4, faults=20, kinds=kinds)

    async def disturb(faults: Faults) -> None:
        for fault in plan:
            await asyncio.sleep(fault.after_s)
            await faults.do(fault)

    await under_load(cluster, disturb, seed=seed)
    assert sum(cluster.num_deaths.values()) >= 10


async def test_all_workers_die_and_one_comes_back(cluster: Cluster) -> None:
    """F3"""
    await begin(cluster)

    async def disturb(faults: Faults) -> None:
        await once("all workers kill")(faults)
        await asyncio.sleep(2.5)
        await cluster.begin("worker", "worker-9")

    finals = await under_load(cluster, disturb)
    assert max(final.attempts for final in finals.values()) == 2


async def test_a_worker_suspended_for_too_long_registers_again(cluster: Cluster) -> None:
    """F4"""
    await begin(cluster)
    finals = await under_load(cluster, once("worker stop", 4))
    assert max(final.attempts for final in finals.values()) >= 2


async def test_a_hiccup_is_no_death(cluster: Cluster) -> None:
    """F5"""
    await begin(cluster)
    finals = await under_load(cluster, once("worker hiccup", 0.3))
    assert {final.attempts for final in finals.values()} <= {0, 1}


@pytest.mark.parametrize(
    ("kind", "lasts_s"),
    [
        ("redis kill", 0.5),
        ("redis stop", 3),
        ("redis sleep", 1.5),
        ("redis tail cut", 0.1),
        ("worker hole", 3),
        ("worker deaf", 3),
        ("worker mute", 3),
        ("worker slow", 2),
        ("api hole", 3),
        ("api deaf", 3),
        ("api slow", 2),
        ("api stop", 3),
        ("worker swallow", 1.5),
        ("api swallow", 1.5),
    ],
)
async def test_a_fault_that_passes(cluster: Cluster, kind: FaultKind, lasts_s: float) -> None:
    """F11 to F21"""
    await begin(cluster)
    await under_load(cluster, once(kind, lasts_s, amount=300))


@pytest.mark.parametrize("kind", ["redis full", "redis disk full"])
async def test_a_full_redis_kills_no_process(cluster: Cluster, kind: FaultKind) -> None:
    """F16, F17: what runs pauses, and goes on where it was."""
    await begin(cluster)
    finals = await under_load(cluster, once(kind, 4))
    assert {final.attempts for final in finals.values()} <= {0, 1}


async def test_redis_set_back(cluster: Cluster) -> None:
    """What Redis lost is written again, by position; what it forgot altogether is said to be gone."""
    await begin(cluster)

    async def disturb(faults: Faults) -> None:
        faults.keep_copy()
        await asyncio.sleep(0.7)
        await faults.set_redis_back()

    await under_load(cluster, disturb)


async def test_a_whole_answer_that_redis_forgets_meanwhile(cluster: Cluster) -> None:
    """Redis set back to before the request: its client is told so at once, and waits no longer."""
    await begin(cluster)
    histories: list[History] = []
    faults = Faults(cluster, histories)
    faults.keep_copy()
    client = Client(Ask("whole", 7, 4000, 4000), cluster.urls, cluster.model, random.Random(1))
    histories.append(client.history)
    asking = asyncio.create_task(client.run(30))

    async def is_running() -> bool:
        return any(worker.jobs for worker in await cluster.store.workers())

    await eventually(is_running, 10, "the request runs")
    await faults.set_redis_back()
    await asking
    assert [heard.what for heard in client.history.heard] == ["lost"]
    await hold_to_promise(cluster, histories)


async def test_connections_that_are_reset_again_and_again(cluster: Cluster) -> None:
    """F18"""
    await begin(cluster)

    async def disturb(_: Faults) -> None:
        for number in range(15):
            await asyncio.sleep(0.2)
            cluster.parts[number % len(cluster.parts)].proxy.cut()

    await under_load(cluster, disturb)


async def test_wake_ups_too_many_and_wake_ups_lost(cluster: Cluster) -> None:
    """F22, F23"""
    await begin(cluster, workers=0)
    await cluster.begin("worker", "worker-0", MAX_SLOTS="2")
    asking = asyncio.create_task(
        ask_all([Ask("events", seed, 20, 400) for seed in range(20)], cluster.urls, cluster.model)
    )
    queue = keys.broker_list(cluster.model)

    async def has_wake_ups() -> bool:
        return bool(await cluster.client.llen(queue) > 2)

    await eventually(has_wake_ups, 10, "waiting wake-ups")
    wake_up = await cluster.client.lindex(queue, 0)
    await cluster.client.lpush(queue, *[str(wake_up)] * 10)
    await cluster.client.delete(queue)
    finals = await hold_to_promise(cluster, await asking)
    assert {final.attempts for final in finals.values()} == {1}


async def test_readers_that_come_and_go(cluster: Cluster) -> None:
    """F27"""
    await begin(cluster)
    asks = [Ask("abandoned", seed, 300, 400, leaves_after=1 + seed % 5) for seed in range(20)]
    histories = await ask_all(asks, cluster.urls, cluster.model)

    async def come_and_go(number: int) -> None:
        path = f"/v1/jobs/{histories[number % 20].job_id}/events"
        try:
            async with opened("GET", cluster.urls[number % 2], path) as reading:
                reading.abandon()
        except Unreachable:
            pass

    for first in range(0, 300, 30):
        await asyncio.gather(*(come_and_go(first + number) for number in range(30)))
    await hold_to_promise(cluster, histories)


async def test_a_poisoned_request_fails_alone(cluster: Cluster) -> None:
    """F28"""
    await begin(cluster)
    for worker in cluster.workers:
        worker.is_supervised = True
        worker.keep()
    asking = asyncio.create_task(
        ask_all([Ask("events", seed, 250, 400) for seed in range(8)], cluster.urls, cluster.model)
    )
    body = {
        "model": cluster.model,
        "messages": [{"role": "user", "content": "count to 5"}],
        "seed": POISON,
    }
    asked = {"endpoint": "/v1/chat/completions", "body": body}
    poisoned = (await fetch("POST", cluster.urls[0], "/v1/jobs", body=asked)).json["id"]
    job = (await fetch("GET", cluster.urls[0], f"/v1/jobs/{poisoned}?wait=60", within_s=60)).json
    assert (job["status"], job["error"]["code"]) == ("failed", "worker_lost")
    assert cluster.num_deaths["worker"] == 3
    await hold_to_promise(cluster, await asking, also_known=[poisoned])


async def test_cancelling_races_with_the_end(cluster: Cluster) -> None:
    """F29"""
    await begin(cluster)
    rng = random.Random(3)
    asks = [
        Ask("cancelled", seed, length := rng.randint(1, 12), 400, leaves_after=length) for seed in range(60)
    ]
    await hold_to_promise(cluster, await ask_all(asks, cluster.urls, cluster.model))


async def test_a_request_that_is_repeated_makes_one_job(cluster: Cluster) -> None:
    """F10: of a hundred requests that are cut anywhere and repeated under their keys."""
    await begin(cluster)
    rng = random.Random(5)
    clients = [
        Client(draw(rng, Shape(tokens=(5, 20)), "waited"), cluster.urls, cluster.model, rng)
        for _ in range(100)
    ]

    async def cut() -> None:
        while True:
            await asyncio.sleep(0.05)
            rng.choice(cluster.apis).proxy.swallow(1)

    cutting = asyncio.create_task(cut())
    histories = list(await asyncio.gather(*(client.run(60) for client in clients)))
    cutting.cancel()
    for part in cluster.parts:
        part.proxy.heal()
    assert len({history.job_id for history in histories}) == 100
    await hold_to_promise(cluster, histories)


@pytest.mark.parametrize(("kind", "lasts_s"), [("redis kill", 0.3), ("redis disk full", 4)])
async def test_redis_that_writes_always(kind: FaultKind, lasts_s: float) -> None:
    """F12, F17"""
    async with Cluster(appendfsync="always", READER_GRACE_S="5", PING_S="1") as cluster:
        await begin(cluster)
        await under_load(cluster, once(kind, lasts_s))

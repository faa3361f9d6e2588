"""A process killed once at each of its fail points, between two writes: the promise holds."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import get_args

import pytest

from shared.runtime.failpoint import Name
from shared.store import keys
from tests.acceptance.faults.harness.clients import Client
from tests.acceptance.faults.harness.cluster import Cluster, Part, eventually
from tests.acceptance.faults.harness.faults import Faults
from tests.acceptance.faults.harness.http import fetch
from tests.acceptance.faults.verdict.history import Ask, History
from tests.acceptance.faults.verdict.promise import hold_to_promise

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(90)]
NAMES = get_args(Name)

LENGTH = 40
STREAMED = Ask("streamed", 11, LENGTH, 400, n=2)
FOLLOWED = Ask("events", 12, LENGTH, 25)
WHOLE = Ask("whole", 13, LENGTH, 400)
CANCELLED = Ask("cancelled", 14, 400, 400, leaves_after=10)
ALL = (STREAMED, FOLLOWED, WHOLE)


class Clients:
    """Ask while processes come and go."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._tasks: list[asyncio.Task[History]] = []
        self.histories: list[History] = []

    def ask(self, *asks: Ask) -> None:
        for ask in asks:
            client = Client(ask, self._cluster.urls, self._cluster.model, random.Random(ask.seed))
            self.histories.append(client.history)
            self._tasks.append(asyncio.create_task(client.run(60)))

    async def heard(self, num_tokens: int) -> None:
        """Wait until the first of them has heard so many tokens."""

        async def has_heard() -> bool:
            return self.histories[0].num_tokens >= num_tokens

        await eventually(has_heard, 20, f"{num_tokens} tokens")

    async def answers(self) -> list[History]:
        return list(await asyncio.gather(*self._tasks))


@pytest.fixture
def clients(cluster: Cluster) -> Clients:
    return Clients(cluster)


async def dies(part: Part) -> None:
    """Wait until it has killed itself."""
    assert part.life is not None
    assert await part.life.status(30) == -signal.SIGKILL, part.life.last_words()


AT_WORK = {
    "lease_begun": "lease_begun",
    "wake_up_received": "wake_up_received",
    "claimed": "claimed:2",
    "resolved": "resolved:2",
    "sampled": "sampled:9",
    "appending": "appending:7",
    "appended": "appended:1",
    "settled": "settled:7",
    "result_kept": "result_kept",
    "ending": "ending",
    "ended": "ended",
    "closed": "closed:2",
    "acknowledging": "acknowledging",
    "acknowledged": "acknowledged:2",
}


@pytest.mark.parametrize("name", AT_WORK)
async def test_a_worker_at_work(cluster: Cluster, clients: Clients, name: str) -> None:
    await cluster.begin("api", "api-1", "api-2")
    armed = cluster.add("worker", "worker-1")
    await armed.start(AT_WORK[name])
    clients.ask(*ALL)
    await dies(armed)
    await cluster.begin("worker", "worker-2")
    await hold_to_promise(cluster, await clients.answers())


@pytest.mark.parametrize(
    "name", ["drain_begun", "drain_stopped", "drain_flushed", "drain_released", "drain_woken"]
)
async def test_a_worker_that_leaves_in_order(cluster: Cluster, clients: Clients, name: str) -> None:
    await cluster.begin("api", "api-1", "api-2")
    armed = cluster.add("worker", "worker-1")
    await armed.start(name)
    clients.ask(*ALL)
    await clients.heard(5)
    assert armed.life is not None
    armed.life.signal(signal.SIGTERM)
    await dies(armed)
    await cluster.begin("worker", "worker-2")
    await hold_to_promise(cluster, await clients.answers())


async def test_a_worker_whose_job_is_cancelled(cluster: Cluster, clients: Clients) -> None:
    await cluster.begin("api", "api-1", "api-2")
    armed = cluster.add("worker", "worker-1")
    await armed.start("taken_away")
    clients.ask(CANCELLED, STREAMED)
    await dies(armed)
    await cluster.begin("worker", "worker-2")
    finals = await hold_to_promise(cluster, await clients.answers())
    assert "cancelled" in {final.status for final in finals.values()}


async def test_a_worker_that_gives_back_what_redis_believes_to_run_there(
    cluster: Cluster, clients: Clients
) -> None:
    await cluster.begin("api", "api-1")
    armed = cluster.add("worker", "worker-1", LEASE_S="5")
    await armed.start("given_back")
    # A job that goes on without readers: one that nobody reads any more would pause.
    clients.ask(replace(STREAMED, kind="events"))
    await clients.heard(20)
    faults = Faults(cluster, clients.histories)
    faults.keep_copy()
    await clients.answers()
    await faults.set_redis_back()
    await dies(armed)
    await cluster.begin("worker", "worker-2")
    finals = await hold_to_promise(cluster, await clients.answers())
    assert {final.attempts for final in finals.values()} == {2}


async def kill_the_worker(_: Cluster, worker: Part) -> None:
    assert worker.life is not None
    worker.life.kill()
    await worker.life.status()


async def lose_the_lease(cluster: Cluster, worker: Part) -> None:
    """As when Redis lost the end of its file."""
    lease = await worker.lease()
    assert lease is not None
    await kill_the_worker(cluster, worker)
    await cluster.client.srem(keys.WORKERS, lease.worker_instance)


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("reaper_judged", kill_the_worker),
        ("reaper_released", kill_the_worker),
        ("reaper_mended", lose_the_lease),
    ],
)
async def test_the_only_reaper(
    cluster: Cluster, clients: Clients, name: Name, harm: Callable[[Cluster, Part], Awaitable[None]]
) -> None:
    armed = cluster.add("api", "api-1")
    await armed.start(name)
    (worker,) = await cluster.begin("worker", "worker-1", LEASE_S="60")
    await armed.ready()
    clients.ask(STREAMED, FOLLOWED)
    await clients.heard(5)
    await harm(cluster, worker)
    await dies(armed)
    await armed.start()
    await cluster.begin("worker", "worker-2")
    finals = await hold_to_promise(cluster, await clients.answers())
    assert {final.attempts for final in finals.values()} == {2}


async def test_the_only_reaper_sends_a_lost_wake_up(cluster: Cluster, clients: Clients) -> None:
    (worker,) = await cluster.begin("worker", "worker-0")
    await cluster.remove(worker)
    armed = cluster.add("api", "api-1")
    await armed.start("reaper_waking")
    await armed.ready()
    clients.ask(FOLLOWED)

    async def is_sent() -> bool:
        return bool(await cluster.client.delete(keys.broker_list(cluster.model)))

    await eventually(is_sent, 10, "a wake-up to lose")
    await dies(armed)
    await armed.start()
    await cluster.begin("worker", "worker-1")
    await hold_to_promise(cluster, await clients.answers())


async def test_the_only_reaper_keeps_a_deadline(cluster: Cluster) -> None:
    (worker,) = await cluster.begin("worker", "worker-0")
    await cluster.remove(worker)
    armed = cluster.add("api", "api-1")
    await armed.start("deadline_kept")
    await armed.ready()
    asked = {**submission(FOLLOWED, cluster), "cancel_after": 0.5}
    answer = await fetch("POST", armed.url, "/v1/jobs", body=asked)
    await dies(armed)
    await armed.start()
    await armed.ready()
    job = (await fetch("GET", armed.url, f"/v1/jobs/{answer.json['id']}")).json
    assert (job["status"], job["reason"]) == ("cancelled", "deadline")
    ends = [entry for entry in await cluster.store.entries(job["id"]) if entry.is_terminal]
    assert len(ends) == 1


def submission(ask: Ask, cluster: Cluster) -> dict[str, object]:
    body = {
        "model": cluster.model,
        "messages": [{"role": "user", "content": f"count to {ask.length}"}],
        "seed": ask.seed,
    }
    return {"endpoint": "/v1/chat/completions", "body": body}


@pytest.mark.parametrize("name", ["creating", "created", "wake_up_sent"])
@pytest.mark.parametrize("ask", ALL, ids=lambda ask: ask.kind)
async def test_a_replica_that_accepts(cluster: Cluster, clients: Clients, name: str, ask: Ask) -> None:
    await cluster.begin("worker", "worker-1")
    armed = cluster.add("api", "api-1")
    await armed.start(name)
    await armed.ready()
    clients.ask(ask)
    await dies(armed)
    await armed.start()
    # One key, one job: another would be nobody's.
    finals = await hold_to_promise(cluster, await clients.answers())
    assert len(finals) == 1


@pytest.mark.parametrize("name", ["cancelling", "cancelled"])
async def test_a_replica_that_cancels(cluster: Cluster, clients: Clients, name: str) -> None:
    await cluster.begin("worker", "worker-1")
    armed = cluster.add("api", "api-1")
    await armed.start(name)
    await armed.ready()
    clients.ask(CANCELLED)
    await dies(armed)
    await armed.start()
    finals = await hold_to_promise(cluster, await clients.answers())
    assert {final.status for final in finals.values()} == {"cancelled"}


@pytest.mark.parametrize("name", ["deleting", "deleted"])
async def test_a_replica_that_deletes(cluster: Cluster, name: str) -> None:
    await cluster.begin("worker", "worker-1")
    armed, other = cluster.add("api", "api-1"), cluster.add("api", "api-2")
    await armed.start(name)
    await other.start()
    await armed.ready()
    await other.ready()
    job_id = (await fetch("POST", armed.url, "/v1/jobs", body=submission(STREAMED, cluster))).json["id"]
    asking = asyncio.create_task(fetch("DELETE", armed.url, f"/v1/jobs/{job_id}"))
    await dies(armed)
    await asyncio.gather(asking, return_exceptions=True)
    again = await fetch("DELETE", other.url, f"/v1/jobs/{job_id}")
    assert again.status == (200 if name == "deleting" else 404)
    assert await cluster.store.get(job_id) is None
    await armed.start()
    await armed.ready()
    await hold_to_promise(cluster, [])


async def test_a_replica_that_repeats_a_job(cluster: Cluster, clients: Clients) -> None:
    await cluster.begin("worker", "worker-1")
    armed, other = cluster.add("api", "api-1"), cluster.add("api", "api-2")
    await armed.start("retrying")
    await other.start()
    await armed.ready()
    await other.ready()
    clients.ask(FOLLOWED)
    (history,) = await clients.answers()
    path, key = f"/v1/jobs/{history.job_id}/retry", {"idempotency-key": "again"}
    asking = asyncio.create_task(fetch("POST", armed.url, path, headers=key))
    await dies(armed)
    await asyncio.gather(asking, return_exceptions=True)
    again = [(await fetch("POST", other.url, path, headers=key)).json["id"] for _ in range(2)]
    assert again[0] == again[1] != history.job_id
    await armed.start()
    await armed.ready()
    await hold_to_promise(cluster, [history], also_known=again)


async def test_each_point_has_its_test() -> None:
    tested = {
        *AT_WORK,
        *("drain_begun", "drain_stopped", "drain_flushed", "drain_released", "drain_woken"),
        *("taken_away", "given_back", "reaper_judged", "reaper_released", "reaper_mended", "reaper_waking"),
        *(
            "deadline_kept",
            "creating",
            "created",
            "wake_up_sent",
            "cancelling",
            "cancelled",
            "deleting",
            "deleted",
        ),
        "retrying",
    }
    assert tested == set(NAMES)

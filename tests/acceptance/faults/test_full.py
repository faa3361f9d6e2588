"""F16, F17: no room in Redis's memory or on its disk: what runs pauses, what is new is refused, nobody dies
or is taken for dead, all goes on when there is room again. Under load: test_matrix.py."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.acceptance.faults.harness.clients import Client
from tests.acceptance.faults.harness.cluster import Cluster, Part, eventually
from tests.acceptance.faults.harness.http import Answer, fetch
from tests.acceptance.faults.verdict.history import Ask
from tests.acceptance.faults.verdict.promise import hold_to_promise

pytestmark = pytest.mark.asyncio(loop_scope="session")


@asynccontextmanager
async def full_memory(cluster: Cluster) -> AsyncIterator[None]:
    await cluster.client.config_set("maxmemory", 1)
    yield
    await cluster.client.config_set("maxmemory", 0)


@asynccontextmanager
async def full_disk(cluster: Cluster) -> AsyncIterator[None]:
    cluster.redis.fill_disk()
    yield
    cluster.redis.free_disk()


async def submit(cluster: Cluster) -> Answer:
    body = {"model": cluster.model, "messages": [{"role": "user", "content": "count to 3"}]}
    asked = {"endpoint": "/v1/chat/completions", "body": body}
    return await fetch("POST", cluster.urls[0], "/v1/jobs", body=asked)


async def longer_than_a_lease(worker: Part) -> None:
    """Return when the worker was refused for so long that its silence would have been its death, and that
    Celery was refused too."""
    assert worker.life is not None
    log = worker.life.log

    async def is_long() -> bool:
        # Refused at 50, 100, 200 … ms, then each second.
        return log.read_text().count("cannot write the output of 1 jobs") >= 7

    await eventually(is_long, 20, "refused again and again")


@pytest.mark.parametrize("full", [full_memory, full_disk])
async def test_all_goes_on_when_there_is_room_again(
    cluster: Cluster, full: Callable[[Cluster], AsyncIterator[None]]
) -> None:
    await cluster.begin("api", "api-1", "api-2")
    (worker,) = await cluster.begin("worker", full.__name__)  # with a log of its own
    client = Client(Ask("streamed", 7, 300, 400), cluster.urls, cluster.model, random.Random(1))
    asking = asyncio.create_task(client.run(40))

    async def is_amid() -> bool:
        return client.history.num_tokens >= 20

    await eventually(is_amid, 20, "tokens")
    async with full(cluster):  # type: ignore[attr-defined]

        async def is_refused() -> bool:
            answer = await submit(cluster)
            assert answer.status in (202, 503)
            return answer.status == 503

        await eventually(is_refused, 5, "a refusal")
        await longer_than_a_lease(worker)
        refused = await submit(cluster)
        assert (refused.status, refused.json["error"]["code"]) == (503, "store_unavailable")
        assert refused.headers["retry-after"]
        read = await fetch("GET", cluster.urls[1], f"/v1/jobs/{client.history.job_id}")
        assert (read.status, read.json["status"]) == (200, "in_progress")
    history = await asking
    known = [key.split(":")[2] async for key in cluster.client.scan_iter("baton:job:*")]
    finals = await hold_to_promise(cluster, [history], also_known=known)
    assert history.job_id is not None and finals[history.job_id].attempts == 1
    assert worker.is_alive and history.num_resumed == 0

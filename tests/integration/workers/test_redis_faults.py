"""A worker process survives whatever Redis answers, and its job goes on exactly."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator

import pytest
from celery import Celery
from redis.asyncio import Redis

from shared.cluster.celery_app import make_celery
from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.wake_up import WakeUp
from shared.store import keys
from shared.store.job_store import JobStore
from shared.store.redis_client import connect
from tests.integration.workers.harness import MODEL, Jobs, eventually
from tests.integration.workers.processes import WorkerProcess, Workers
from tests.redis_proxy import REFUSALS, Cut, Delay, Garble, Mode, Pass, RedisProxy, Refuse, Silence
from tests.redis_server import RedisServer
from tests.scripted_backend import scripted_text

#: How long each fault lasts, and how long the connection is good then.
FAULT_S, PAUSE_S = 0.12, 0.05
LENGTH = 1500


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[RedisProxy]:
    with RedisProxy(redis_server.url) as carrying:
        yield carrying


@pytest.fixture
async def worker(proxy: RedisProxy, store: JobStore) -> AsyncIterator[WorkerProcess]:
    started = Workers(proxy.url)
    one = started.start("w1", step_s=0.01)
    await one.ready(store)
    yield one
    started.remove()


async def go_through(proxy: RedisProxy, modes: list[Mode]) -> None:
    for mode in modes:
        proxy.mode = mode
        await asyncio.sleep(FAULT_S)
        proxy.mode = Pass()
        await asyncio.sleep(PAUSE_S)


async def runs_exactly(
    proxy: RedisProxy, worker: WorkerProcess, jobs: Jobs, sender: WakeUpSender, modes: list[Mode]
) -> None:
    job_id = await jobs.create(LENGTH)
    await sender.send([WakeUp(job_id, MODEL)])
    await jobs.reached(job_id, 5)
    await go_through(proxy, modes)
    job = await jobs.ended(job_id, 60)
    if job.status == "completed":
        assert await jobs.texts(job_id) == [scripted_text(1, 0, LENGTH)]
    else:  # a stream that was damaged on its way cannot be told from one that is damaged
        assert any(isinstance(mode, Garble) for mode in modes)
        assert job.error is not None and job.error.code == "unreadable_job"
    # It still takes work, by the same process.
    another = await jobs.create(5, seed=2)
    await sender.send([WakeUp(another, MODEL)])
    await jobs.ended(another, 30)
    worker.signal(signal.SIGTERM)
    assert await worker.exit_status(20) == 0, worker.log


@pytest.mark.timeout(120)
async def test_error_words(
    proxy: RedisProxy, worker: WorkerProcess, jobs: Jobs, sender: WakeUpSender
) -> None:
    await runs_exactly(proxy, worker, jobs, sender, [Refuse(text) for text in REFUSALS])


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "modes",
    [
        [Cut("command"), Cut("reply"), Cut("middle")] * 3,
        [Silence(), Delay(0.5), Silence()],
        [Garble(seed, share) for seed in range(20) for share in (1.0, 0.2)],
    ],
    ids=["cuts", "silence", "garble"],
)
async def test_damaged_connections(
    proxy: RedisProxy, worker: WorkerProcess, jobs: Jobs, sender: WakeUpSender, modes: list[Mode]
) -> None:
    await runs_exactly(proxy, worker, jobs, sender, modes)


async def test_what_is_no_celery_message(
    worker: WorkerProcess,
    store: JobStore,
    jobs: Jobs,
    sender: WakeUpSender,
    redis_client: Redis,
    redis_server: RedisServer,
) -> None:
    for text in ("", "no JSON", "[]", "7", "null", "{}", '{"properties": 1}', '{"body": "x"}', b"\xff"):
        await redis_client.lpush(keys.broker_list(MODEL), text)
    for text in ("no JSON", "7", "[1, 2]", '[{}, "e", "r"]', "[[], [], []]"):
        await redis_client.hset("baton:unacked", f"tag {text}", text)
        await redis_client.zadd("baton:unacked_index", {f"tag {text}": 1})
    # A worker that starts queues again what was not acknowledged for a day.
    another = Workers(redis_server.url)
    await another.start("w2").ready(store)
    for seed in range(2):
        job_id = await jobs.create(20, seed=seed)
        await sender.send([WakeUp(job_id, MODEL)])
        await jobs.ended(job_id, 30)
    assert {state.name for state in await store.workers()} == {"w1", "w2"}
    assert (await worker.ready(store)).pid == worker.pid

    async def is_dropped() -> bool:
        return int(await redis_client.zcard("baton:unacked_index")) == 0

    await eventually(is_dropped)
    another.remove()


async def test_connections_that_redis_closes(
    worker: WorkerProcess, jobs: Jobs, sender: WakeUpSender, redis_client: Redis
) -> None:
    job_id = await jobs.create(300)
    await sender.send([WakeUp(job_id, MODEL)])
    for _ in range(10):
        await redis_client.client_kill_filter(skipme=True, _type="normal")
        await redis_client.client_kill_filter(skipme=True, _type="pubsub")
        await redis_client.script_flush()
        await asyncio.sleep(0.1)
    await jobs.ended(job_id, 30)
    assert await jobs.texts(job_id) == [scripted_text(1, 0, 300)]
    worker.signal(signal.SIGTERM)
    assert await worker.exit_status(20) == 0, worker.log


def test_a_sender_survives_every_answer(proxy: RedisProxy, redis_server: RedisServer) -> None:
    """The supervisor's and the replicas' side of Celery."""
    celery: Celery = make_celery(proxy.url)
    celery.conf.broker_transport_options["socket_timeout"] = 0.2

    async def send() -> None:
        sender = WakeUpSender(celery, None)  # type: ignore[arg-type]
        refusals, garbles = [Refuse(text) for text in REFUSALS], [Garble(seed) for seed in range(30)]
        modes: list[Mode] = [*refusals, *garbles, Cut("command"), Cut("middle"), Pass()]
        for mode in modes:
            proxy.mode = mode
            await sender.send([WakeUp("job_AAAAAAAAAAAAAAAAAAAAAAAA", "sent")])
        sender.close()

    asyncio.run(send())
    celery.close()

    async def num_sent() -> int:
        redis = connect(redis_server.url, timeout_s=2)
        found = await redis.llen(keys.broker_list("sent"))
        await redis.delete(keys.broker_list("sent"))
        await redis.aclose()
        return found

    assert asyncio.run(num_sent()) >= 1

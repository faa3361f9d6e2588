"""Measures how many jobs per second are accepted over HTTP, and whether 100,000 queued jobs slow anything down.

Accepting jobs is compared with Celery's own producer, which sends the same bodies as messages to the same Redis,
without HTTP and without a job to look up. Then single calls are timed with 1,000, 10,000 and 100,000 jobs in the
queue; a ratio of 1 to the first means no slowdown. Of many calls, the 10th percentile is reported, because other load
on the machine hardly affects it.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
from redis.asyncio import Redis

from api.http.auth import PUBLIC
from bench.harness.cheap_client import CheapClient
from bench.harness.server_process import ServerProcess, api_process
from bench.harness.spread import spread
from shared.cluster.celery_app import make_celery
from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.job import NewJob, new_job_id
from shared.domain.lease import Lease
from shared.domain.request import ChatMessage, ChatPrompt, GenerationRequest, SamplingOptions
from shared.domain.wake_up import WakeUp
from shared.store import keys
from shared.store.job_store import JobStore
from shared.store.redis_client import connect
from tests.redis_server import RedisServer

MODEL = "bench"
PROMPT = "Count from one upwards, one number after the other, and do not stop before a thousand. " * 2
BODY: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 64}
REQUEST = GenerationRequest(
    (ChatPrompt((ChatMessage("user", PROMPT),)),), sampling=SamplingOptions(max_tokens=64)
)
JOB = {"endpoint": "/v1/chat/completions", "body": BODY}
LEASE = Lease("bench.w", "bench", MODEL, "host", 1, "cpu", 9999, "rev")
#: Concurrent calls while filling the queue.
_WIDTH = 64


async def accept(server: ServerProcess, count: int, connections: int) -> tuple[float, float]:
    """Jobs accepted per second over HTTP, and the server's CPU time per job in microseconds."""
    clients = [await CheapClient.open(server.port) for _ in range(connections)]

    async def post(client: CheapClient, number: int) -> None:
        for _ in range(number):
            assert await client.post("/v1/jobs", JOB) == 202

    await asyncio.gather(*(post(client, 2) for client in clients))
    cpu, started = server.cpu_s, time.perf_counter()
    await asyncio.gather(*(post(client, count // connections) for client in clients))
    seconds = time.perf_counter() - started
    cpu = server.cpu_s - cpu
    for client in clients:
        client.close()
    done = count // connections * connections
    return done / seconds, 1e6 * cpu / done


def send(redis_url: str, count: int) -> tuple[float, float]:
    """The same for Celery's producer in this process."""
    celery = make_celery(redis_url)
    with celery.producer_pool.acquire(block=True) as producer:

        def send_all(number: int) -> None:
            for _ in range(number):
                celery.send_task("bench.plain", args=(BODY,), queue="bench.plain", producer=producer)

        send_all(20)
        cpu, started = time.process_time(), time.perf_counter()
        send_all(count)
        seconds = time.perf_counter() - started
        cpu_us = 1e6 * (time.process_time() - cpu) / count
    celery.close()
    return count / seconds, cpu_us


def accepting(redis_url: str, options: argparse.Namespace) -> None:
    ours, theirs = [], []
    with api_process(redis_url, MODEL) as server:
        for _ in range(options.rounds):
            ours.append(asyncio.run(accept(server, options.jobs, options.connections)))
            theirs.append(send(redis_url, options.jobs))
    print(f"jobs accepted, {options.jobs} a round, {options.connections} connections: min / median / max")
    print(f"{'':<12}{'POST /v1/jobs':>26}{'celery send_task':>26}{'ratio':>22}")
    for row, name in enumerate(("jobs a s", "CPU us a job")):
        a, b = [figures[row] for figures in ours], [figures[row] for figures in theirs]
        ratios = [own / rival for own, rival in zip(a, b, strict=True)]
        print(f"{name:<12}{spread(a, 0):>26}{spread(b, 0):>26}{spread(ratios):>22}", flush=True)


class Filler:
    """Fills the queue to a given length, with one wake-up per job."""

    def __init__(self, redis: Redis, store: JobStore) -> None:
        self._redis = redis
        self._store = store
        self.job_ids: list[str] = []

    async def begin(self, redis_url: str) -> None:
        """Sends one real wake-up, which `fill` then copies."""
        celery = make_celery(redis_url)
        sender = WakeUpSender(celery, self._redis)
        await sender.send([WakeUp(await self.create(), MODEL)])
        sender.close()
        celery.close()

    async def fill(self, length: int) -> None:
        missing = length - len(self.job_ids)
        wake_up = (await self._redis.lrange(keys.broker_list(MODEL), 0, 0))[0]
        for first in range(0, missing, _WIDTH):
            await asyncio.gather(*(self.create() for _ in range(min(_WIDTH, missing - first))))
            await self._redis.rpush(keys.broker_list(MODEL), *[wake_up] * min(_WIDTH, missing - first))

    async def create(self) -> str:
        job = NewJob(new_job_id(), MODEL, PUBLIC, REQUEST)
        await self._store.create(job)
        self.job_ids.append(job.id)
        return job.id


async def undisturbed_ms(call: Callable[[], Awaitable[object]], count: int) -> float:
    times = []
    for _ in range(count):
        started = time.perf_counter()
        await call()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.quantiles(times, n=10)[0]


async def waiting(redis_url: str, options: argparse.Namespace) -> None:
    redis = connect(redis_url, timeout_s=30)
    store = JobStore(redis)
    filler = Filler(redis, store)
    await redis.flushall()
    await filler.begin(redis_url)
    before = len(filler.job_ids), await used_bytes(redis)
    rows: list[dict[str, float]] = []
    # All jobs belong to one key, so raise its limit.
    max_open_jobs = str(2 * max(options.lengths))
    with api_process(redis_url, MODEL, LEASE_S="600", MAX_OPEN_JOBS=max_open_jobs) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=60, trust_env=False) as http:
            for length in options.lengths:
                await filler.fill(length)
                now = length, await used_bytes(redis)
                figures = await calls(http, store, filler, options.calls)
                rows.append({"bytes a job": (now[1] - before[1]) / (now[0] - before[0]), **figures})
                before = len(filler.job_ids), await used_bytes(redis)
    await redis.aclose()
    print(f"\nms per call by number of queued jobs (10th percentile of {options.calls}); ratio to the first")
    print(f"{'':<24}" + "".join(f"{length:>18}" for length in options.lengths))
    for name, first in rows[0].items():
        cells = [f"{row[name]:.2f} ({row[name] / first:.2f})" for row in rows]
        print(f"{name:<24}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


async def used_bytes(redis: Redis) -> int:
    return int((await redis.info("memory"))["used_memory"])


async def calls(http: httpx.AsyncClient, store: JobStore, filler: Filler, count: int) -> dict[str, float]:
    """Times each kind of call at the current queue length."""

    async def get(path: str) -> None:
        (await http.get(path)).raise_for_status()

    async def post() -> None:
        (await http.post("/v1/jobs", json=JOB)).raise_for_status()

    last = filler.job_ids[-1]
    # A new worker for each length: the jobs that a worker holds make its claims slower.
    lease = replace(LEASE, worker_instance=f"bench.{last}")
    await store.register(lease)
    return {
        "enqueue, in Redis": await undisturbed_ms(filler.create, count),
        "position, in Redis": await undisturbed_ms(lambda: store.queue_positions([(MODEL, last)]), count),
        "claim, in Redis": await undisturbed_ms(lambda: store.claim(lease, new_job_id()), count),
        "POST /v1/jobs": await undisturbed_ms(post, count),
        "GET /v1/jobs/{last}": await undisturbed_ms(lambda: get(f"/v1/jobs/{last}"), count),
        "GET /v1/jobs": await undisturbed_ms(lambda: get("/v1/jobs?limit=20"), count),
        "GET /metrics": await undisturbed_ms(lambda: get("/metrics"), count),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="jobs per round over HTTP")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--calls", type=int, default=100, help="calls of each kind at each length")
    options = parser.parse_args()
    redis = RedisServer()
    redis.start()
    try:
        accepting(redis.url, options)
        asyncio.run(waiting(redis.url, options))
    finally:
        redis.remove()


if __name__ == "__main__":
    main()

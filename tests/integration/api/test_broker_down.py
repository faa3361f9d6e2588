"""Celery's broker goes and comes back while the store is well: nobody waits in vain, what was accepted is kept."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from shared.domain.lease import Lease
from shared.store import keys
from shared.store.job_store import JobStore
from shared.store.redis_client import connect
from tests.integration.api.requests import CHAT, chat, submit
from tests.integration.api.server import MODEL, ApiServer
from tests.integration.workers.harness import eventually
from tests.redis_server import RedisServer

LEASE = Lease("w.1", "w", MODEL, "host", 1, "cpu", 4, "rev")
KEY = {"idempotency-key": "a key"}


@pytest.fixture
def broker_api(redis_server: RedisServer, broker: RedisServer, store: JobStore) -> Iterator[ApiServer]:  # noqa: ARG001
    with ApiServer(redis_server.url, broker_url=broker.url, first_output_wait_s=0.3, lease_s=60) as server:
        yield server


@pytest.fixture
async def broker_http(broker_api: ApiServer, store: JobStore) -> AsyncIterator[httpx.AsyncClient]:
    await store.register(LEASE)  # a worker that never claims
    async with httpx.AsyncClient(base_url=broker_api.url, timeout=10) as client:
        yield client


async def until_woken(broker: RedisServer, num_jobs: int) -> None:
    """Wait until the wake-ups of so many jobs are in the broker."""
    client = connect(broker.url, timeout_s=2)

    async def are_there() -> bool:
        return await client.llen(keys.broker_list(MODEL)) == num_jobs

    await eventually(are_there)
    await client.aclose()


@pytest.mark.parametrize("fault", ["killed", "stopped"])
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_chat_is_refused_and_runs_no_more(
    broker_http: httpx.AsyncClient, broker: RedisServer, store: JobStore, *, fault: str, streamed: bool
) -> None:
    known = await broker_http.post("/v1/jobs", json={"endpoint": CHAT, "body": chat()}, headers=KEY)
    await until_woken(broker, 1)
    if fault == "killed":
        broker.kill()
    else:
        os.kill(broker.pid, signal.SIGSTOP)
    # The first one learns it, the others know it.
    for _ in range(2):
        response = await broker_http.post(CHAT, json=chat(stream=streamed))
        assert (response.status_code, response.json()["error"]["code"]) == (503, "broker_unavailable")
        assert response.headers["retry-after"]
    jobs = (await broker_http.get("/v1/jobs")).json()["data"]
    assert [job["status"] for job in jobs] == ["cancelled", "queued"]
    again = await broker_http.post("/v1/jobs", json={"endpoint": CHAT, "body": chat()}, headers=KEY)
    assert again.json()["id"] == known.json()["id"]
    assert await store.num_queued(MODEL) == 1
    if fault == "stopped":
        os.kill(broker.pid, signal.SIGCONT)


async def test_readiness_names_it_and_jobs_are_woken_once_it_is_back(
    broker_http: httpx.AsyncClient, broker: RedisServer
) -> None:
    assert (await broker_http.get("/health/ready")).status_code == 200
    broker.kill()
    ready = await broker_http.get("/health/ready")
    assert (ready.status_code, ready.json()["missing"]) == (503, ["broker"])
    await submit(broker_http)
    broker.start()
    assert (await broker_http.get("/health/ready")).status_code == 200

    await until_woken(broker, 1)

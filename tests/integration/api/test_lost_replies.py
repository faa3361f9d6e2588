"""Redis did what it was asked, and its reply was lost or late: what the client is told is what happens."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from shared.errors import StoreUnavailable
from shared.store.job_store import JobStore
from shared.store.redis_client import connect
from tests.fake_worker import FakeWorker, hello
from tests.integration.api.conftest import StartApi
from tests.integration.api.requests import CHAT, chat, job
from tests.integration.api.server import ApiServer
from tests.integration.workers.harness import eventually
from tests.redis_server import RedisServer

KEY = {"idempotency-key": "a key"}


class Replies:
    """Replies of Redis that a replica does not get."""

    def __init__(self, store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lost: set[str] = set()
        for name in ("create", "withdraw", "give_up", "queue_positions"):
            monkeypatch.setattr(store, name, self._lossy(name, getattr(store, name)))

    def _lossy(self, name: str, call: Any) -> Any:
        async def called(*args: Any, **options: Any) -> Any:
            answer = await call(*args, **options)
            if name in self.lost:
                raise StoreUnavailable("the reply was lost")
            return answer

        return called


@pytest.fixture
def own_api(start_api: StartApi) -> ApiServer:
    return start_api(first_output_wait_s=0.3)


@pytest.fixture
def replies(own_api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Replies:
    return Replies(own_api.services.store, monkeypatch)


@pytest.fixture
async def own_http(own_api: ApiServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=own_api.url, timeout=20) as client:
        yield client


@pytest.mark.parametrize("headers", [{}, KEY], ids=["without a key", "with a key"])
async def test_a_job_that_was_stored_is_accepted(
    own_http: httpx.AsyncClient, replies: Replies, headers: dict[str, str]
) -> None:
    replies.lost = {"create", "queue_positions"} if not headers else {"create"}
    response = await own_http.post("/v1/jobs", json=job(), headers=headers)
    assert (response.status_code, "idempotent-replayed" in response.headers) == (202, False)
    replies.lost = set()
    listed = (await own_http.get("/v1/jobs")).json()["data"]
    assert [one["id"] for one in listed] == [response.json()["id"]]
    assert {**response.json(), "queue_position": 0} == (await own_http.get(listed[0]["urls"]["get"])).json()


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_chat_that_was_stored_is_answered(
    own_http: httpx.AsyncClient, replies: Replies, store: JobStore, *, streamed: bool
) -> None:
    replies.lost = {"create"}
    async with FakeWorker(store, hello) as worker:
        assert (await own_http.post(CHAT, json=chat(stream=streamed))).status_code == 200
    assert worker.num_claims == 1


@pytest.mark.parametrize(("path", "body"), [("/v1/jobs", job()), (CHAT, chat()), (CHAT, chat(stream=True))])
async def test_what_is_not_known_to_be_stored_is_named_and_ended(
    own_http: httpx.AsyncClient, replies: Replies, store: JobStore, path: str, body: dict[str, Any]
) -> None:
    replies.lost = {"create", "withdraw", "give_up"}
    refused = await own_http.post(path, json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
    job_id = refused.headers["x-job-id"]
    assert job_id in refused.json()["error"]["message"] and refused.headers["retry-after"]
    replies.lost = set()

    async def is_ended() -> bool:
        return bool((await own_http.get(f"/v1/jobs/{job_id}")).json()["status"] == "cancelled")

    await eventually(is_ended)
    # The client repeats it: it runs once.
    async with FakeWorker(store, hello) as worker:
        assert (await own_http.post(path, json=body)).status_code in (200, 202)

        async def has_run() -> bool:
            return worker.num_claims == 1 and await store.num_queued("test") == 0

        await eventually(has_run)


async def test_with_a_key_it_is_kept_for_the_client_that_repeats(
    own_http: httpx.AsyncClient, replies: Replies
) -> None:
    replies.lost = {"create", "withdraw"}
    refused = await own_http.post("/v1/jobs", json=job(), headers=KEY)
    assert (refused.status_code, "same Idempotency-Key" in refused.text) == (503, True)
    replies.lost = set()
    again = await own_http.post("/v1/jobs", json=job(), headers=KEY)
    assert (again.status_code, again.json()["id"]) == (202, refused.headers["x-job-id"])
    assert again.json()["status"] == "queued"


async def test_a_chat_that_nobody_serves_is_ended_though_the_reply_was_lost(
    own_http: httpx.AsyncClient, replies: Replies, store: JobStore
) -> None:
    replies.lost = {"give_up"}
    refused = await own_http.post(CHAT, json=chat())
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_worker")
    found = await store.get(refused.headers["x-job-id"])
    assert found is not None and found.status == "cancelled"


@asynccontextmanager
async def own_redis_api() -> AsyncIterator[tuple[RedisServer, httpx.AsyncClient, JobStore]]:
    """A replica on a Redis that a test may stop."""
    redis = RedisServer()
    redis.start()
    client = connect(redis.url, timeout_s=5)
    with ApiServer(redis.url) as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=20) as http:
            yield redis, http, JobStore(client)
    await client.aclose()
    redis.remove()


@pytest.mark.parametrize("late_s", [2.2, 4.5])
async def test_whoever_is_refused_while_redis_hangs_has_no_job(late_s: float) -> None:
    """Two calls: one hangs for less than it takes to find out, one for more."""
    async with own_redis_api() as (redis, http, store):
        os.kill(redis.pid, signal.SIGSTOP)
        asking = [asyncio.create_task(http.post("/v1/jobs", json=job())) for _ in range(20)]
        await asyncio.sleep(late_s)
        os.kill(redis.pid, signal.SIGCONT)
        answers = await asyncio.gather(*asking)
        accepted = {answer.json()["id"] for answer in answers if answer.status_code == 202}
        assert {answer.status_code for answer in answers} <= {202, 503}

        async def is_true() -> bool:
            return await store.num_queued("test") == len(accepted)

        await eventually(is_true)
        listed = (await http.get("/v1/jobs", params={"limit": "100"})).json()["data"]
        assert {one["id"] for one in listed if one["status"] == "queued"} == accepted

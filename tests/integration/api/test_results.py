"""A finished job is read from its stored result, and is the same where it has to be read from its stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import pytest
from redis.asyncio import Redis

from api.delivery import stored_output
from shared.domain.job import Job
from shared.store import keys
from shared.store.job_reader import Page
from shared.store.job_store import JobStore
from tests.fake_worker import FakeWorker, Running, hello
from tests.integration.api.requests import CHAT, chat, read_blocks, submit
from tests.integration.api.server import ApiServer
from tests.integration.api.test_chat import calls


@contextmanager
def counted_pages(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many entries each page had that was read."""
    sizes: list[int] = []
    store, page = api.services.store, api.services.store.page

    async def counted(job_id: str, *, after: str | None, limit: int) -> Page:
        found = await page(job_id, after=after, limit=limit)
        sizes.append(len(found.entries))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(store, "page", counted)
        yield sizes


async def ended(http: httpx.AsyncClient) -> str:
    job_id = await submit(http)
    await http.get(f"/v1/jobs/{job_id}", params={"wait": "10"})
    return job_id


async def test_it_is_read_in_one_call(
    http: httpx.AsyncClient, api: ApiServer, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeWorker(store, hello):
        job_id = await ended(http)
    with counted_pages(api, monkeypatch) as sizes:
        found = (await http.get(f"/v1/jobs/{job_id}", params={"output": "true"})).json()
        chat_ = (await http.get(f"{CHAT}/{job_id.replace('job_', 'chatcmpl-')}")).json()
    assert sizes == [] and found["result"] == chat_
    assert (
        found["output_so_far"][0]["text"]
        == found["result"]["choices"][0]["message"]["content"]
        == "Hello, world!"
    )


async def test_without_one_the_stream_is_read_in_pages(
    http: httpx.AsyncClient,
    api: ApiServer,
    store: JobStore,
    redis_client: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with FakeWorker(store, calls):
        job_id = await ended(http)
    expected = (await http.get(f"/v1/jobs/{job_id}")).json()
    assert await redis_client.delete(keys.job_result(job_id)) == 1
    monkeypatch.setattr(stored_output, "_PAGE", 2)
    with counted_pages(api, monkeypatch) as sizes:
        assert (await http.get(f"/v1/jobs/{job_id}")).json() == expected
    assert len(sizes) > 2 and max(sizes) == 2


async def test_a_cancelled_job_shows_what_it_has_released(http: httpx.AsyncClient, store: JobStore) -> None:
    async with FakeWorker(store) as worker:
        job_id = await submit(http)
        await (await worker.claimed()).say("a", "b")
        await http.post(f"/v1/jobs/{job_id}/cancel")
    found = (await http.get(f"/v1/jobs/{job_id}", params={"output": "true"})).json()
    assert (found["result"], found["output_so_far"][0]["text"]) == (None, "ab")
    assert (found["positions"], found["usage"]["completion_tokens"]) == ([2], 2)
    refused = await http.get(f"{CHAT}/{job_id.replace('job_', 'chatcmpl-')}")
    assert (refused.status_code, refused.json()["error"]) == (409, found["error"])


# Records of a newer version


@pytest.fixture
async def running(http: httpx.AsyncClient, store: JobStore) -> AsyncIterator[Running]:
    """A job that has released a unit."""
    async with FakeWorker(store) as worker:
        await submit(http)
        claimed = await worker.claimed()
        await claimed.say("a")
        yield claimed


async def write(redis: Redis, job: Job, event: dict[str, object], end: str) -> None:
    await redis.xadd(keys.events(job.id), {"e": json.dumps(event), "end": end, "used": "7,1,0,0"}, id="2-50")


async def test_an_unknown_event_is_skipped(
    http: httpx.AsyncClient, running: Running, redis_client: Redis
) -> None:
    await write(redis_client, running.job, {"type": "from_the_future"}, "1")
    found = (await http.get(f"/v1/jobs/{running.job.id}", params={"output": "true"})).json()
    assert (found["status"], found["output_so_far"][0]["text"]) == ("in_progress", "a")
    accept = {"accept": "application/json"}
    page = (await http.get(f"/v1/jobs/{running.job.id}/events", headers=accept)).json()
    assert [event["event"] for event in page["events"]] == ["job.queued", "job.started", "job.output"]


async def test_an_unknown_operation_ends_reading_and_asks_the_client_to_come_back(
    http: httpx.AsyncClient, running: Running, redis_client: Redis
) -> None:
    part = [0, 1, [9], [""], None, None, [0, "text", 0, 0, 1], {"0": [["sing", "la"]]}]
    await write(redis_client, running.job, {"type": "output", "choices": [part]}, "2")
    path = f"/v1/jobs/{running.job.id}"
    assert (await http.get(path)).json()["positions"] == [2]
    chat_path = f"{CHAT}/{running.job.id.replace('job_', 'chatcmpl-')}/events"
    for url in (f"{path}?output=true", f"{path}/events", chat_path):
        refused = await http.get(url)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "event_unreadable")
        assert refused.headers["retry-after"]


async def test_an_unknown_operation_ends_a_stream_with_an_error(
    http: httpx.AsyncClient, running: Running, redis_client: Redis
) -> None:
    async with http.stream("GET", f"/v1/jobs/{running.job.id}/events") as response:
        found = read_blocks(response)
        assert [(await anext(found)).event for _ in range(3)] == ["job.queued", "job.started", "job.output"]
        part = [0, 1, [9], [""], None, None, [0, "text", 0, 0, 1], {"0": [["sing", "la"]]}]
        await write(redis_client, running.job, {"type": "output", "choices": [part]}, "2")
        (error,) = [block async for block in found]
    assert (error.event, error.json["error"]["code"]) == ("error", "event_unreadable")


async def test_an_unreadable_job_is_listed_and_can_be_deleted(
    http: httpx.AsyncClient, redis_client: Redis
) -> None:
    job_id, other = await submit(http), await submit(http)
    await redis_client.hset(keys.job(job_id), "created_ms", "soon")
    listed = (await http.get("/v1/jobs")).json()["data"]
    assert [(one["id"], one["status"]) for one in listed] == [(other, "queued"), (job_id, "unreadable")]
    assert set(listed[0]) == set(listed[1]) and listed[1]["result"] is None and listed[1]["object"] == "job"
    assert (await http.get(f"/v1/jobs/{job_id}")).json() == listed[1]
    refused = await http.get(f"/v1/jobs/{job_id}/events")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "job_unreadable")
    assert (await http.delete(f"/v1/jobs/{job_id}")).json()["deleted"] is True
    assert [one["id"] for one in (await http.get("/v1/jobs")).json()["data"]] == [other]


async def test_a_word_of_a_newer_version_is_shown_as_it_is(
    http: httpx.AsyncClient, redis_client: Redis
) -> None:
    job_id = await submit(http)
    await redis_client.hset(keys.job(job_id), "priority", "urgent")
    assert (await http.get(f"/v1/jobs/{job_id}")).json()["priority"] == "urgent"
    assert (await http.get("/v1/jobs")).json()["data"][0]["priority"] == "urgent"
    assert (await http.delete(f"/v1/jobs/{job_id}")).status_code == 200


async def test_a_job_of_an_unknown_endpoint_is_shown_without_its_result(
    http: httpx.AsyncClient, store: JobStore, redis_client: Redis
) -> None:
    async with FakeWorker(store, hello):
        job_id = await ended(http)
    await redis_client.hset(keys.job(job_id), "endpoint", "/v9/dreams")
    found = (await http.get(f"/v1/jobs/{job_id}")).json()
    assert (found["endpoint"], found["status"], found["result"]) == ("/v9/dreams", "completed", None)
    refused = await http.get(f"/v1/jobs/{job_id}/events")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "endpoint_unknown")
    assert (await http.get(f"{CHAT}/{job_id.replace('job_', 'chatcmpl-')}")).status_code == 404


async def test_a_model_that_is_not_there_names_those_that_are(http: httpx.AsyncClient) -> None:
    error = (await http.post(CHAT, json=chat(model="gpt-4o-mini"))).json()["error"]
    assert error["message"] == "The model 'gpt-4o-mini' does not exist. This server serves 'test'."

"""Queue position and ETA: in the object, in the list, and as events that are in no stream."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import httpx
from redis.asyncio import Redis

from shared.domain.events import Completed, Queued
from shared.domain.job import Job
from shared.domain.lease import Lease
from shared.store import keys
from shared.store.append import Append
from shared.store.job_store import JobStore
from tests.fake_worker import FakeWorker, hello
from tests.integration.api.conftest import StartApi
from tests.integration.api.requests import CHAT, chat, read_blocks, submit
from tests.integration.api.server import MODEL
from tests.unit.api.streams import Block

LEASE = Lease("w.a", "w", MODEL, "host", 1, "cpu", 1, "rev")
RAN_S = 10


async def _measured(http: httpx.AsyncClient, store: JobStore, redis: Redis) -> Job:
    """A worker of one slot that took ten seconds for a job and has taken another; answers that one."""
    await store.register(LEASE)
    first = await _claimed(http, store, "h1")
    await redis.hincrby(keys.job(first.id), "started_ms", -RAN_S * 1000)
    await store.append([Append(first.id, "h1", (0,), (0,), terminal=Completed())])
    return await _claimed(http, store, "h2")


async def _claimed(http: httpx.AsyncClient, store: JobStore, claim_token: str) -> Job:
    await submit(http)
    job = await store.claim(LEASE, claim_token)
    assert isinstance(job, Job)
    return job


async def test_the_object_and_the_list_show_position_and_eta(
    http: httpx.AsyncClient, store: JobStore, redis_client: Redis
) -> None:
    running = await _measured(http, store, redis_client)
    ids = [await submit(http) for _ in range(3)]
    async with asyncio.timeout(10):
        # What a replica knows of pace and workers may be a second old.
        while (await http.get(f"/v1/jobs/{ids[2]}")).json()["eta_seconds"] in (None, 0):
            await store.beat("w.a", steps=1, wake_ups=0, running={running.id: "h2"}, stats={})
            await asyncio.sleep(0.05)
    for position, job_id in enumerate(ids):
        found = (await http.get(f"/v1/jobs/{job_id}")).json()
        assert found["queue_position"] == position
        assert RAN_S * (position + 1) <= found["eta_seconds"] <= (RAN_S + 2) * (position + 1)
    listed = {one["id"]: one for one in (await http.get("/v1/jobs")).json()["data"]}
    assert [listed[job_id]["queue_position"] for job_id in ids] == [0, 1, 2]
    assert all(listed[job_id]["eta_seconds"] >= RAN_S for job_id in ids)
    assert (listed[running.id]["queue_position"], listed[running.id]["eta_seconds"]) == (None, None)


async def test_readers_are_told_while_the_job_waits(
    http: httpx.AsyncClient, other_http: httpx.AsyncClient, store: JobStore
) -> None:
    ahead, job_id = await submit(http), await submit(http)
    async with (
        http.stream("GET", f"/v1/jobs/{job_id}/events") as one,
        other_http.stream("GET", f"/v1/jobs/{job_id}/events") as other,
    ):
        streams = [read_blocks(one), read_blocks(other)]
        for stream in streams:
            queued, position = await _next(stream), await _next(stream)
            assert (queued.event, position.event, position.id) == ("job.queued", "job.queued", queued.id)
            assert position.json == queued.json | {
                "queue_position": 1,
                "eta_seconds": position.json["eta_seconds"],
            }
        await http.post(f"/v1/jobs/{ahead}/cancel")
        for stream in streams:
            while (told := (await _next(stream)).json["queue_position"]) != 0:
                assert told == 1  # another ETA
        assert [entry.event for entry in await store.entries(job_id)] == [Queued()]
        async with FakeWorker(store) as worker:
            running = await worker.claimed()
            for stream in streams:
                while (block := await _next(stream)).event == "job.queued":
                    assert block.json["queue_position"] == 0
                assert block.event == "job.started"
            await running.complete()
            for stream in streams:
                assert [block.event async for block in stream][-1] == "job.completed"


async def _next(stream: AsyncIterator[Block]) -> Block:
    async with asyncio.timeout(10):
        return await anext(stream)


async def test_polling_ends_with_the_position(http: httpx.AsyncClient, store: JobStore) -> None:
    await submit(http)
    job_id = await submit(http)
    accept = {"accept": "application/json"}
    first = (await http.get(f"/v1/jobs/{job_id}/events", headers=accept)).json()
    assert [(event["event"], event["data"].get("queue_position")) for event in first["events"]] == [
        ("job.queued", None),
        ("job.queued", 1),
    ]
    params = {"after": first["cursor"], "wait": "0.05"}
    again = (await http.get(f"/v1/jobs/{job_id}/events", headers=accept, params=params)).json()
    assert [event["data"]["queue_position"] for event in again["events"]] == [1]
    assert (again["cursor"], again["done"]) == (first["cursor"], False)
    limited = (await http.get(f"/v1/jobs/{job_id}/events", headers=accept, params={"limit": "1"})).json()
    assert len(limited["events"]) == 1
    async with FakeWorker(store) as worker:
        await worker.claimed()
        running = await worker.claimed()
        await running.say("a")
        now = (await http.get(f"/v1/jobs/{job_id}/events", headers=accept, params=params)).json()
    assert [event["event"] for event in now["events"]] == ["job.started", "job.output"]


async def test_a_chat_is_told_in_comments(start_api: StartApi, store: JobStore) -> None:
    await store.register(LEASE)
    api = start_api(first_output_wait_s=0.2)
    async with httpx.AsyncClient(base_url=api.url, timeout=20) as http:
        await submit(http)
        lines = list[str]()
        async with http.stream("POST", CHAT, json=chat(stream=True)) as response:
            reading = response.aiter_lines()
            while not lines or not lines[-1].startswith(": queued"):
                lines.append(await anext(reading))
            assert lines[-1] == ": queued position=1"
            async with FakeWorker(store, hello):
                lines += [line async for line in reading]
    assert not any(line.startswith("event:") for line in lines)
    # A blank line follows data only: stock clients read anything before it as an event.
    ends = [before for before, line in itertools.pairwise(lines) if not line]
    assert ends and all(line.startswith("data: ") for line in ends)
    assert lines[-2:] == ["data: [DONE]", ""]

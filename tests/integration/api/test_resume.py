"""A stream that was cut anywhere goes on at another replica; late readers get it all."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from api.streaming.cursor import Cursor
from shared.domain.sampling import SamplingParams
from shared.store.append import Append
from shared.store.job_store import JobStore, Served
from tests.fake_worker import ANSWER, FakeWorker, Running, hello
from tests.integration.api.requests import CHAT, chat, read_blocks, resume, stream, submit
from tests.unit.api.streams import Text, blocks
from workers.engine.resolved_request import ResolvedRequest

TEXT = "".join(ANSWER)


async def two_choices(running: Running) -> None:
    """Two choices at different speeds; one of them finishes without a token of its own."""
    await running.say("a", choice=0)
    await running.say("x", "y", choice=1)
    await running.say("b", "é", choice=0)
    await running.say("z", choice=1, finish="length")
    await running.say("c", choice=0)
    await running.complete()


async def test_cut_anywhere(http: httpx.AsyncClient, other_http: httpx.AsyncClient, store: JobStore) -> None:
    async with FakeWorker(store, two_choices):
        whole = await stream(http, n=2, stream_options={"include_usage": True})
    completion_id = whole[0].json["id"]
    assert len(whole) >= 7
    for cut in range(len(whole) + 1):
        last_id = whole[cut - 1].id if cut else None
        response = await resume(other_http, completion_id, last_id)
        if cut == len(whole):
            assert (response.status_code, response.content) == (204, b"")
            break
        both = Text.of([*whole[:cut], *blocks(response.content)])
        assert both == Text.of(whole)
        by_query = await other_http.get(
            f"{CHAT}/{completion_id}/events", params={"starting_after": last_id} if last_id else {}
        )
        assert by_query.content == response.content


async def test_cut_while_it_runs(
    http: httpx.AsyncClient, other_http: httpx.AsyncClient, store: JobStore
) -> None:
    async with FakeWorker(store) as worker:
        async with http.stream("POST", CHAT, json=chat(stream=True)) as response:
            running = await worker.claimed()
            await running.say("a", "b")
            found = read_blocks(response)
            first = await anext(found)
            await running.say("c")
            # The other reader is there before this one leaves: the job does not pause.
            resuming = asyncio.create_task(resume(other_http, first.json["id"], first.id))
            await running.say("d", "e")
            await asyncio.sleep(0.3)
        await running.complete()
        rest = blocks((await resuming).content)
    assert Text.of([first, *rest]).texts == {0: "abcde"}


async def test_a_reader_is_told_that_nobody_serves_the_revision_any_more(
    http: httpx.AsyncClient, store: JobStore
) -> None:
    async with FakeWorker(store) as worker:
        asking = asyncio.create_task(stream(http))
        running = await worker.claimed()
        assert running.job.claim_token is not None
        resolved = ResolvedRequest(((1,),), SamplingParams(max_tokens=8, seed=1), (), "revision")
        begun = Append(running.job.id, running.job.claim_token, (0,), (0,), resolved=resolved)
        await store.append([begun])
        await running.say("a", "b")
    await store.audit([running.job.id], lasting={running.job.model: Served(frozenset({"another"}), 1)})
    async with asyncio.timeout(10):
        *output, error = await asking
    assert Text.of(output).texts == {0: "ab"}
    assert error.json["error"]["code"] == "model_changed"
    completion_id = output[0].json["id"]
    again = blocks((await resume(http, completion_id, output[-1].id)).content)
    assert [block.json["error"]["code"] for block in again] == ["model_changed"]
    assert (await resume(http, completion_id, error.id)).status_code == 204
    job = (await http.get(f"/v1/jobs/{running.job.id}")).json()
    assert (job["status"], job["error"]["code"]) == ("failed", "model_changed")


async def test_late_readers_get_it_all(
    http: httpx.AsyncClient, other_http: httpx.AsyncClient, store: JobStore
) -> None:
    async with FakeWorker(store, hello):
        whole = await stream(http)
        completion_id = whole[0].json["id"]
        late = [blocks((await resume(client, completion_id)).content) for client in (http, other_http)]
        object_ = (await other_http.get(f"{CHAT}/{completion_id}")).json()
    assert [Text.of(found) for found in late] == [Text.of(whole)] * 2
    assert object_["choices"][0]["message"]["content"] == TEXT
    assert (object_["id"], object_["created"]) == (completion_id, whole[0].json["created"])


async def test_polling_gives_the_same(
    http: httpx.AsyncClient, other_http: httpx.AsyncClient, store: JobStore
) -> None:
    async with FakeWorker(store, two_choices):
        job_id = await submit(http, body=chat(n=2))
        sse = blocks((await http.get(f"/v1/jobs/{job_id}/events")).content)
        for limit in (1, 2, 100):
            polled = await poll(other_http, job_id, limit=limit)
            assert polled == [{"event": b.event, "id": b.id, "data": b.json} for b in sse]
    assert [b.event for b in sse if b.event != "job.output"] == ["job.queued", "job.started", "job.completed"]


async def poll(http: httpx.AsyncClient, job_id: str, **params: Any) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for _ in range(100):
        response = await http.get(
            f"/v1/jobs/{job_id}/events", params=params, headers={"accept": "application/json"}
        )
        page = response.json()
        assert len(page["events"]) <= params["limit"]
        events += page["events"]
        params["after"] = page["cursor"]
        if page["done"]:
            return events
    raise AssertionError("never done")


async def test_polling_waits_for_news(http: httpx.AsyncClient, store: JobStore) -> None:
    async with FakeWorker(store) as worker:
        job_id = await submit(http)
        running = await worker.claimed()
        path, headers = f"/v1/jobs/{job_id}/events", {"accept": "application/json"}
        page = (await http.get(path, headers=headers)).json()
        assert [event["event"] for event in page["events"]] == ["job.queued", "job.started"]
        params = {"after": page["cursor"], "wait": "0.05"}
        assert (await http.get(path, params=params, headers=headers)).json() == {
            "events": [],
            "cursor": page["cursor"],
            "done": False,
        }
        polling = asyncio.create_task(http.get(path, params={**params, "wait": "10"}, headers=headers))
        await asyncio.sleep(0.05)
        await running.say("a")
        news = (await polling).json()
        assert [event["data"]["choices"][0]["delta"]["content"] for event in news["events"]] == ["a"]


async def test_a_job_resumed_by_another_worker_goes_on(http: httpx.AsyncClient, store: JobStore) -> None:
    job_id = await submit(http)
    reading = asyncio.create_task(http.get(f"/v1/jobs/{job_id}/events"))
    async with FakeWorker(store, name="w-1") as first:
        await (await first.claimed()).say("a")
    async with FakeWorker(store, name="w-2") as second:
        running = await second.claimed()
        assert running.end == [1]
        await running.say("b")
        await running.complete()
        found = blocks((await reading).content)
    assert [b.event for b in found if b.event != "job.output"] == [
        "job.queued",
        "job.started",
        "job.requeued",
        "job.resumed",
        "job.completed",
    ]
    assert Text.of([b for b in found if b.event == "job.output"]).texts == {0: "ab"}


async def test_a_cursor_ahead_of_a_live_job_waits(http: httpx.AsyncClient, store: JobStore) -> None:
    # As after Redis lost its tail: the reader has three tokens, the stream one.
    async with FakeWorker(store) as worker:
        job_id = await submit(http)
        running = await worker.claimed()
        await running.say("a")
        ahead = Cursor.start(job_id, 1).encode().replace(".0.o.0n", ".2.o.3b")
        reading = asyncio.create_task(resume(http, job_id.replace("job_", "chatcmpl-"), ahead))
        await running.say("b", "c", "d")
        await running.complete()
        assert Text.of(blocks((await reading).content)).texts == {0: "d"}


@pytest.mark.parametrize("path", [CHAT, "/v1/jobs"])
async def test_ids_of_events_that_cannot_be(http: httpx.AsyncClient, store: JobStore, path: str) -> None:
    async with FakeWorker(store, hello):
        job_id, other_id = await submit(http), await submit(http)
        for submitted in (job_id, other_id):
            await http.get(f"/v1/jobs/{submitted}", params={"wait": "10"})
    name = job_id if path == "/v1/jobs" else job_id.replace("job_", "chatcmpl-")
    ahead = Cursor.start(job_id, 1).encode().replace(".0.o.0n", ".2.o.999b")
    for bad in ("abc", "-1", "0x1", "x" * 10_000, Cursor.start(other_id, 1).encode(), ahead):
        response = await http.get(f"{path}/{name}/events", headers={"last-event-id": bad})
        assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_event_id")
        assert response.json()["error"]["param"] == "Last-Event-ID"


async def test_the_end_of_a_job_is_204(http: httpx.AsyncClient, store: JobStore) -> None:
    async with FakeWorker(store, hello):
        job_id = await submit(http)
        found = blocks((await http.get(f"/v1/jobs/{job_id}/events")).content)
    response = await http.get(f"/v1/jobs/{job_id}/events", headers={"last-event-id": found[-1].id})
    assert (response.status_code, response.content) == (204, b"")
    polled = await http.get(
        f"/v1/jobs/{job_id}/events", params={"after": found[-1].id}, headers={"accept": "application/json"}
    )
    assert polled.json() == {"events": [], "cursor": found[-1].id, "done": True}


@pytest.mark.parametrize("is_forgotten", [True, False])
async def test_an_expired_stream_is_410(
    http: httpx.AsyncClient, store: JobStore, redis_client: Any, *, is_forgotten: bool
) -> None:
    async with FakeWorker(store, hello):
        whole = await stream(http)
    completion_id = whole[0].json["id"]
    job_id = completion_id.replace("chatcmpl-", "job_")
    if is_forgotten:
        await store.forget(job_id)
        assert (await resume(http, completion_id)).status_code == 404
    else:
        await redis_client.delete(f"baton:job:{job_id}:events")
        assert (await resume(http, completion_id)).status_code == 410
    response = await resume(http, completion_id, whole[1].id)
    assert (response.status_code, response.json()["error"]["code"]) == (410, "stream_expired")

"""Jobs: accepted at once, looked at, waited for, listed, cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from api.answers.listing import page_of_jobs
from shared.cluster import reaper
from shared.domain.job import Job
from shared.errors import ErrorInfo
from shared.store import keys
from shared.store.job_reader import UnreadableJob
from shared.store.job_store import JobStore
from tests.fake_worker import ANSWER, FakeWorker, hello
from tests.integration.api.conftest import StartApi
from tests.integration.api.requests import CHAT, chat, job, read_blocks, submit
from tests.integration.api.server import MODEL
from tests.unit.api.streams import blocks

TEXT = "".join(ANSWER)


async def test_a_job_is_accepted_and_waits(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/jobs", json=job(priority="high", metadata={"a": "b"}))
    found = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == found["urls"]["get"] == f"/v1/jobs/{found['id']}"
    assert response.headers["x-job-id"] == found["id"]
    created_at = found.pop("created_at")
    assert isinstance(created_at, int)
    assert found == {
        "id": found["id"],
        "object": "job",
        "endpoint": "/v1/chat/completions",
        "status": "queued",
        "paused": False,
        "reason": None,
        "model": MODEL,
        "worker": None,
        "priority": "high",
        "on_disconnect": "continue",
        "queue_position": 0,
        "eta_seconds": None,
        "attempts": 0,
        "retry_of": None,
        "started_at": None,
        "completed_at": None,
        "urls": {
            "get": f"/v1/jobs/{found['id']}",
            "events": f"/v1/jobs/{found['id']}/events",
            "cancel": f"/v1/jobs/{found['id']}/cancel",
        },
        "metadata": {"a": "b"},
        "positions": [0],
        "output_so_far": None,
        "timing": {"queued_s": None, "running_s": None},
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        "result": None,
        "error": None,
    }


async def test_priority_goes_first(http: httpx.AsyncClient) -> None:
    low, normal, high = [await submit(http, priority=p) for p in ("low", "normal", "high")]
    positions = [(await http.get(f"/v1/jobs/{i}")).json()["queue_position"] for i in (low, normal, high)]
    assert positions == [2, 1, 0]


async def test_a_job_runs_and_ends(http: httpx.AsyncClient, store: JobStore) -> None:
    async with FakeWorker(store) as worker:
        job_id = await submit(http)
        running = await worker.claimed()
        await running.say("Hel", "lo")
        found = (await http.get(f"/v1/jobs/{job_id}")).json()
        assert (found["status"], found["worker"], found["attempts"]) == ("in_progress", "fake-0", 1)
        assert (found["positions"], found["usage"]["completion_tokens"]) == ([2], 2)
        assert found["output_so_far"] is None
        found = (await http.get(f"/v1/jobs/{job_id}", params={"output": "true"})).json()
        assert found["output_so_far"] == [{"index": 0, "text": "Hello", "tokens": 2, "finish_reason": None}]
        waiting = asyncio.create_task(http.get(f"/v1/jobs/{job_id}", params={"wait": "10"}))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await running.complete("length")
        found = (await waiting).json()
    assert (found["status"], found["error"]) == ("incomplete", None)
    assert found["result"]["choices"][0]["message"]["content"] == "Hello"
    assert found["usage"] == found["result"]["usage"]
    assert found["timing"]["running_s"] >= 0 and found["completed_at"] >= found["started_at"]


async def test_waiting_ends_in_time(http: httpx.AsyncClient) -> None:
    job_id = await submit(http)
    found = (await http.get(f"/v1/jobs/{job_id}", params={"wait": "0.1"})).json()
    assert found["status"] == "queued"


async def test_cancelling_is_idempotent(http: httpx.AsyncClient, store: JobStore) -> None:
    async with FakeWorker(store) as worker:
        job_id = await submit(http)
        running = await worker.claimed()
        await running.say("a")
        for _ in range(2):
            found = (await http.post(f"/v1/jobs/{job_id}/cancel")).json()
            assert (found["status"], found["reason"]) == ("cancelled", "client")
            assert found["error"]["code"] == "job_cancelled"
        assert (await running.say("b")).kind == "not yours"
        events = (await http.get(f"/v1/jobs/{job_id}/events")).text
    assert events.count("event: job.cancelled") == 1


async def test_a_job_that_is_over_is_not_cancelled(http: httpx.AsyncClient, store: JobStore) -> None:
    async with FakeWorker(store, hello):
        job_id = await submit(http)
        await http.get(f"/v1/jobs/{job_id}", params={"wait": "10"})
    assert (await http.post(f"/v1/jobs/{job_id}/cancel")).json()["status"] == "completed"


async def test_the_list_is_paged(http: httpx.AsyncClient) -> None:
    ids = [await submit(http) for _ in range(5)][::-1]
    await http.post(f"/v1/jobs/{ids[2]}/cancel")
    seen: list[str] = []
    params: dict[str, str] = {"limit": "2"}
    while True:
        page = (await http.get("/v1/jobs", params=params)).json()
        seen += [found["id"] for found in page["data"]]
        assert all(found["result"] is None for found in page["data"])
        if not page["has_more"]:
            break
        params["after"] = page["last_id"]
    assert sorted(seen) == sorted(ids)
    cancelled = (await http.get("/v1/jobs", params={"status": "cancelled"})).json()
    assert [found["id"] for found in cancelled["data"]] == [ids[2]]
    queued = (await http.get("/v1/jobs", params={"status": "queued", "limit": "3"})).json()
    assert (len(queued["data"]), queued["has_more"]) == (3, True)


class CountingStore(JobStore):
    """Remembers how much was read of it."""

    num_ids = num_jobs = 0

    async def list_ids(self, owner: str, *, before: str | None, limit: int) -> list[str] | None:
        ids = await super().list_ids(owner, before=before, limit=limit)
        self.num_ids += len(ids or [])
        return ids

    async def get_many(self, job_ids: Sequence[str]) -> list[Job | UnreadableJob | None]:
        self.num_jobs += len(job_ids)
        return await super().get_many(job_ids)


async def test_a_page_reads_no_more_jobs_than_it_shows(http: httpx.AsyncClient, redis_client: Redis) -> None:
    ids = [await submit(http) for _ in range(5)][::-1]
    store = CountingStore(redis_client)
    for after, shown, has_more in [(None, ids[:2], True), (ids[1], ids[2:4], True), (ids[3], ids[4:], False)]:
        store.num_ids = store.num_jobs = 0
        page = await page_of_jobs(store, "public", None, after, 2)
        assert ([job.id for job in page.jobs], page.last_id, page.has_more) == (shown, shown[-1], has_more)
        assert (store.num_ids, store.num_jobs) == (len(shown) + has_more, len(shown))


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"status": "x"}, "status"),
        ({"limit": "0"}, "limit"),
        ({"limit": "1000000000"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"after": "job_" + "a" * 24}, "after"),
        ({"after": "*"}, "after"),
        ({"order": "asc"}, "order"),
    ],
)
async def test_a_bad_query_is_named(http: httpx.AsyncClient, params: dict[str, str], param: str) -> None:
    response = await http.get("/v1/jobs", params=params)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.mark.parametrize("wait", ["-1", "nan", "inf", "x", "1e9"])
async def test_a_bad_wait_is_named(http: httpx.AsyncClient, wait: str) -> None:
    job_id = await submit(http)
    response = await http.get(f"/v1/jobs/{job_id}", params={"wait": wait})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "wait")


async def test_deadlines_are_kept(http: httpx.AsyncClient) -> None:
    expiring = await submit(http, expires_after=0.1)
    late = await submit(http, cancel_after=0.1)
    found = [(await http.get(f"/v1/jobs/{i}", params={"wait": "10"})).json() for i in (expiring, late)]
    assert [(f["status"], f["reason"], f["error"]["code"]) for f in found] == [
        ("expired", None, "job_expired"),
        ("cancelled", "deadline", "deadline_exceeded"),
    ]


async def test_a_job_of_a_chat(http: httpx.AsyncClient, store: JobStore) -> None:
    async with FakeWorker(store, hello):
        response = await http.post("/v1/chat/completions", json=chat())
        found = (await http.get(f"/v1/jobs/{response.headers['x-job-id']}")).json()
    assert found["result"] == response.json()


@pytest.mark.parametrize("field", ["expires_after", "cancel_after"])
@pytest.mark.parametrize("value", [0, -1, 1e18, 2_592_001, "60", True, [], {}])
async def test_a_bad_deadline_is_named(http: httpx.AsyncClient, field: str, value: Any) -> None:
    response = await http.post("/v1/jobs", json=job(**{field: value}))
    assert (response.status_code, response.json()["error"]["param"]) == (400, field)


@pytest.mark.parametrize(
    ("field", "value"), [("priority", "urgent!"), ("priority", 1), ("on_disconnect", "x")]
)
async def test_a_bad_word_is_named(http: httpx.AsyncClient, field: str, value: Any) -> None:
    response = await http.post("/v1/jobs", json=job(**{field: value}))
    assert (response.status_code, response.json()["error"]["param"]) == (400, field)


async def test_a_job_that_began_in_time_does_not_expire(http: httpx.AsyncClient, store: JobStore) -> None:
    async with FakeWorker(store) as worker:
        job_id = await submit(http, expires_after=0.3, cancel_after=2_592_000)
        running = await worker.claimed()
        late = await submit(http, cancel_after=0.3)
        late_running = await worker.claimed()
        ended = (await http.get(f"/v1/jobs/{late}", params={"wait": "10"})).json()
        assert (ended["status"], ended["reason"]) == ("cancelled", "deadline")
        assert (await late_running.check()).kind == "not yours"
        assert (await running.complete()).kind == "closed"
    assert (await http.get(f"/v1/jobs/{job_id}")).json()["status"] == "completed"


async def test_who_reads_decides_whether_a_job_goes_on(
    start_api: StartApi, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "_PAUSED_PATIENCE_S", 2.0)
    api = start_api(reader_grace_s=0.2)
    async with httpx.AsyncClient(base_url=api.url, timeout=20) as http:
        unread = await submit(http, on_disconnect="cancel")
        kept = await submit(http, on_disconnect="continue")
        read = await submit(http, on_disconnect="cancel")
        continues, older = {"x-on-disconnect": "continue"}, {"baton-on-disconnect": "cancel"}
        chats = [await _leave(http, headers) for headers in (continues, older)]
        asking = asyncio.create_task(http.get(f"/v1/jobs/{read}", params={"wait": "20"}))
        async with asyncio.timeout(20):
            for job_id in (unread, chats[1]):
                while (await http.get(f"/v1/jobs/{job_id}")).json()["status"] == "queued":
                    await asyncio.sleep(0.05)
        ids = (unread, kept, read, *chats)
        reasons = [(await http.get(f"/v1/jobs/{job_id}")).json()["reason"] for job_id in ids]
        assert reasons == ["reader_gone", None, None, None, "reader_gone"]
        async with FakeWorker(store, hello):
            assert (await asking).json()["status"] == "completed"


async def _leave(http: httpx.AsyncClient, headers: dict[str, str]) -> str:
    """Ask for a chat and go away at once; answers its job."""
    before = await _listed(http)
    asking = asyncio.create_task(http.post("/v1/chat/completions", json=chat(), headers=headers))
    async with asyncio.timeout(10):
        while (now := await _listed(http)) == before:
            await asyncio.sleep(0.01)
    asking.cancel()
    return (now - before).pop()


async def _listed(http: httpx.AsyncClient) -> set[str]:
    return {str(one["id"]) for one in (await http.get("/v1/jobs")).json()["data"]}


@pytest.mark.parametrize(
    ("header", "param"),
    [("x-on-disconnect", "x-on-disconnect"), ("baton-on-disconnect", "Baton-On-Disconnect")],
)
async def test_a_bad_header_is_named(http: httpx.AsyncClient, header: str, param: str) -> None:
    response = await http.post("/v1/chat/completions", json=chat(), headers={header: "x"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_a_job_that_aborts_ends_when_its_reader_leaves(http: httpx.AsyncClient) -> None:
    job_id = await _leave(http, {"x-on-disconnect": "abort", "baton-on-disconnect": "continue"})
    async with asyncio.timeout(10):
        # A GET without `wait` does not count as a reader.
        while (found := (await http.get(f"/v1/jobs/{job_id}")).json())["status"] == "queued":
            await asyncio.sleep(0.02)
    assert (found["status"], found["reason"]) == ("cancelled", "reader_gone")
    assert found["on_disconnect"] == "abort"


async def test_a_job_that_is_over_is_retried(http: httpx.AsyncClient, store: JobStore) -> None:
    fields = {"priority": "low", "metadata": {"a": "b"}, "cancel_after": 600, "expires_after": 300}
    job_id = await submit(http, **fields, body=chat(seed=7, n=2))
    early = await http.post(f"/v1/jobs/{job_id}/retry")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "job_not_over")
    await http.post(f"/v1/jobs/{job_id}/cancel")
    response = await http.post(f"/v1/jobs/{job_id}/retry")
    new = response.json()
    assert (response.status_code, response.headers["location"]) == (202, new["urls"]["get"])
    assert new["id"] != job_id and (new["retry_of"], new["status"]) == (job_id, "queued")
    assert (new["priority"], new["metadata"]) == ("low", {"a": "b"})
    first, second = await store.get(job_id), await store.get(new["id"])
    assert first is not None and second is not None
    assert (second.request, second.n, second.endpoint) == (first.request, 2, first.endpoint)
    assert (second.cancel_after_s, second.expires_after_s) == (600, 300)
    assert (await http.get(f"/v1/jobs/{job_id}")).json()["status"] == "cancelled"
    async with FakeWorker(store, hello):
        ended = (await http.get(f"/v1/jobs/{new['id']}", params={"wait": "10"})).json()
    assert (ended["status"], ended["result"]["choices"][1]["message"]["content"]) == ("completed", TEXT)


@pytest.mark.parametrize("action", ["cancel", "retry"])
async def test_actions_take_no_parameters(http: httpx.AsyncClient, action: str) -> None:
    job_id = await submit(http)
    response = await http.post(f"/v1/jobs/{job_id}/{action}", json={"priority": "high"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "priority")
    assert (await http.get(f"/v1/jobs/{job_id}")).json()["status"] == "queued"


@pytest.mark.parametrize("method_path", [("POST", "/retry"), ("POST", "/cancel"), ("DELETE", "")])
async def test_a_job_that_is_not_there(http: httpx.AsyncClient, method_path: tuple[str, str]) -> None:
    method, path = method_path
    response = await http.request(method, f"/v1/jobs/job_{'a' * 24}{path}")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "job_not_found")


async def test_a_job_that_is_over_is_deleted(
    http: httpx.AsyncClient, store: JobStore, redis_client: Redis
) -> None:
    async with FakeWorker(store, hello):
        job_id = await submit(http)
        await http.get(f"/v1/jobs/{job_id}", params={"wait": "10"})
    cursor = blocks((await http.get(f"/v1/jobs/{job_id}/events")).content)[0].id
    response = await http.delete(f"/v1/jobs/{job_id}")
    assert response.json() == {"id": job_id, "object": "job.deleted", "deleted": True}
    for path in ("", "/events"):
        assert (await http.get(f"/v1/jobs/{job_id}{path}")).status_code == 404
    gone = await http.get(f"/v1/jobs/{job_id}/events", headers={"last-event-id": cursor})
    assert (gone.status_code, gone.json()["error"]["code"]) == (410, "stream_expired")
    assert (await http.delete(f"/v1/jobs/{job_id}")).status_code == 404
    assert (await http.get("/v1/jobs")).json()["data"] == []
    assert [key async for key in redis_client.scan_iter(f"*{job_id}*")] == []
    assert await redis_client.zcard(keys.DEADLINES) == 0


@pytest.mark.parametrize("is_running", [True, False])
async def test_deleting_ends_what_is_not_over(
    http: httpx.AsyncClient, other_http: httpx.AsyncClient, store: JobStore, *, is_running: bool
) -> None:
    job_id = await submit(http)
    async with FakeWorker(store) if is_running else nullcontext() as worker:
        if worker is not None:
            running = await worker.claimed()
            await running.say("a")
        async with other_http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
            stream = read_blocks(response)
            seen = [await anext(stream)]
            assert (await http.delete(f"/v1/jobs/{job_id}")).json()["deleted"] is True
            seen += [block async for block in stream]
        assert seen[-1].event == "job.cancelled" and seen[-1].json["reason"] == "client"
        if worker is not None:
            assert (await running.say("b")).kind == "gone"
    assert await store.num_queued(MODEL) == 0 and (await store.survey(limit=9)).active == []


async def test_deleting_a_chat_tells_its_reader(
    http: httpx.AsyncClient, other_http: httpx.AsyncClient, store: JobStore
) -> None:
    async with FakeWorker(store) as worker:
        whole = asyncio.create_task(http.post("/v1/chat/completions", json=chat()))
        job_id = (await worker.claimed()).job.id
        await other_http.delete(f"/v1/jobs/{job_id}")
        response = await whole
    assert (response.status_code, response.json()["error"]["code"]) == (409, "job_cancelled")


async def test_a_job_is_kept_as_long_as_it_was_promised(start_api: StartApi, store: JobStore) -> None:
    brief, kept = start_api(retention_s=0.2), start_api(retention_s=600)
    ids = []
    async with asyncio.timeout(20):
        for api in (brief, kept):
            async with httpx.AsyncClient(base_url=api.url) as http:
                ids.append(await submit(http))
                assert (await http.post(f"/v1/jobs/{ids[-1]}/cancel")).status_code == 200
        while await store.get(ids[0]) is not None:
            await asyncio.sleep(0.05)
    assert await store.get(ids[1]) is not None
    assert await store.list_ids("public", before=None, limit=9) == [ids[1]]


async def test_a_key_has_so_many_open_jobs_and_no_more(start_api: StartApi, store: JobStore) -> None:
    async with httpx.AsyncClient(base_url=start_api(max_open_jobs=2).url) as http:
        first, _ = [(await http.post("/v1/jobs", json=job())).json()["id"] for _ in range(2)]
        refused = await http.post("/v1/jobs", json=job())
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert refused.headers["retry-after"]
        assert await store.num_queued("test") == 2
        await http.post(f"/v1/jobs/{first}/cancel")
        assert (await http.post("/v1/jobs", json=job())).status_code == 202


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/events"), ("POST", "/retry"), ("POST", "/cancel"), ("DELETE", "")],
)
async def test_another_owners_job_is_one_that_is_not_there(
    start_api: StartApi, method: str, path: str
) -> None:
    api = start_api(api_keys=("alice", "bob"))
    alice, bob = ({"authorization": f"Bearer {key}"} for key in ("alice", "bob"))
    async with httpx.AsyncClient(base_url=api.url) as client:
        created = await client.post("/v1/jobs", json=job(), headers=alice)
        url = f"/v1/jobs/{created.json()['id']}"
        refused = await client.request(method, url + path, headers=bob)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "job_not_found")
        assert (await client.get(url, headers=alice)).json()["status"] == "queued"


async def test_a_key_has_so_many_bytes_and_no_more(start_api: StartApi) -> None:
    large = chat(messages=[{"role": "user", "content": "x" * 2**20}])
    async with httpx.AsyncClient(base_url=start_api(max_owner_mb=2).url) as http:
        first = (await http.post("/v1/jobs", json=job(large))).json()["id"]
        refused = await http.post("/v1/jobs", json=job(large))
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "storage_limit_exceeded")
        assert "DELETE /v1/jobs/{id}" in refused.json()["error"]["message"] and refused.headers["retry-after"]
        assert (await http.post(CHAT, json=large)).status_code == 429
        await http.delete(f"/v1/jobs/{first}")
        assert (await http.post("/v1/jobs", json=job(large))).status_code == 202


async def test_all_keys_have_so_many_bytes_and_no_more(start_api: StartApi) -> None:
    large = chat(messages=[{"role": "user", "content": "x" * 2**20}])
    async with httpx.AsyncClient(base_url=start_api(max_stored_mb=2).url) as http:
        assert (await http.post("/v1/jobs", json=job(large))).status_code == 202
        refused = await http.post("/v1/jobs", json=job(large))
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "storage_full")
        assert "BATON_MAX_STORED_MB" in refused.json()["error"]["message"] and refused.headers["retry-after"]


async def test_a_request_that_is_not_kept_cannot_be_retried(http: httpx.AsyncClient, store: JobStore) -> None:
    async with FakeWorker(store) as worker:
        job_id = await submit(http)
        await (await worker.claimed()).fail(ErrorInfo("too long", code="context_length_exceeded", status=400))
        refused = await http.post(f"/v1/jobs/{job_id}/retry")
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "request_not_kept")
        assert (await http.get(f"/v1/jobs/{job_id}")).json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("damage", ["no events", "another type", "a view that is no object"])
async def test_a_damaged_job_is_shown_and_deleted(
    http: httpx.AsyncClient, store: JobStore, redis_client: Redis, damage: str
) -> None:
    job_id = await submit(http)
    if damage == "no events":
        await redis_client.xdel(keys.events(job_id), "1-0")
    elif damage == "another type":
        await redis_client.delete(keys.job(job_id))
        await redis_client.rpush(keys.job(job_id), "x")
    else:
        await redis_client.hset(keys.job_request(job_id), "view", '"x"')
    found = await http.get(f"/v1/jobs/{job_id}")
    assert found.status_code in (200, 410), found.text
    assert found.status_code == 410 or found.json()["status"] == "unreadable"
    assert (await http.get(f"/v1/jobs/{job_id}/events")).status_code in (410, 503)
    assert (await http.get("/v1/jobs")).status_code == 200
    assert (await http.delete(f"/v1/jobs/{job_id}")).status_code == 200
    assert [name for name in await redis_client.keys("*") if job_id in name] == []
    assert await store.list_ids("public", before=None, limit=9) == []
    assert (await http.get(f"/v1/jobs/{job_id}")).status_code == 404

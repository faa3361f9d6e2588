"""Jobs: accepted at once, looked at, waited for, listed, cancelled."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from shared.job_store import JobStore
from tests.fake_worker import ANSWER, FakeWorker, hello
from tests.integration.api.requests import chat, job, submit
from tests.integration.api.server import MODEL

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
        "output_so_far": [{"index": 0, "text": "", "tokens": 0, "finish_reason": None}],
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


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"status": "x"}, "status"),
        ({"limit": "0"}, "limit"),
        ({"limit": "1000000000"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"after": "job_" + "a" * 24}, "after"),
        ({"after": "*"}, "after"),
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

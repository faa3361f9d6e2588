"""`Idempotency-Key`: a POST that is repeated means the same job, on any replica."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from shared.store.job_store import JobStore
from tests.fake_worker import FakeWorker, hello, says
from tests.integration.api.conftest import StartApi
from tests.integration.api.requests import CHAT, chat, job, read_blocks, submit
from tests.unit.api.streams import Block, Text, blocks

KEY = {"idempotency-key": "a key"}
REPLAYED = "idempotent-replayed"


async def test_a_job_repeated_is_the_same_job(http: httpx.AsyncClient, other_http: httpx.AsyncClient) -> None:
    first = await http.post("/v1/jobs", json=job(), headers=KEY)
    again = await other_http.post("/v1/jobs", json=job(), headers=KEY)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json() and again.headers["location"] == first.headers["location"]
    assert first.headers["x-job-id"] == again.headers["x-job-id"]
    assert REPLAYED not in first.headers and again.headers[REPLAYED] == "true"
    assert len((await http.get("/v1/jobs")).json()["data"]) == 1


@pytest.mark.parametrize("changes", [{"priority": "low"}, {"body": chat(seed=1)}, {"metadata": {"a": "b"}}])
async def test_another_body_is_a_conflict(http: httpx.AsyncClient, changes: dict[str, object]) -> None:
    await http.post("/v1/jobs", json=job(), headers=KEY)
    response = await http.post("/v1/jobs", json=job() | changes, headers=KEY)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (409, "idempotency_key_reused")
    assert (error["type"], error["param"]) == ("invalid_request_error", "Idempotency-Key")


async def test_the_order_of_fields_and_how_the_answer_is_shown_make_no_difference(
    http: httpx.AsyncClient,
) -> None:
    first = await http.post("/v1/jobs", json=job(), headers=KEY)
    same = {
        "body": {**dict(reversed(chat().items())), "stream": True, "stream_options": {}},
        "endpoint": CHAT,
    }
    again = await http.post("/v1/jobs", json=same, headers=KEY)
    assert again.json()["id"] == first.json()["id"]


async def test_another_endpoint_is_a_conflict(http: httpx.AsyncClient) -> None:
    job_id = (await http.post("/v1/jobs", json=job(), headers=KEY)).json()["id"]
    for path in (CHAT, f"/v1/jobs/{job_id}/cancel"):
        response = await http.post(path, json=chat() if path == CHAT else {}, headers=KEY)
        assert (response.status_code, response.json()["error"]["code"]) == (409, "idempotency_key_reused")
    assert (await http.get(f"/v1/jobs/{job_id}")).json()["status"] == "queued"


@pytest.mark.parametrize("key", [b"", b"a" * 256, "ä".encode(), b"a\tb"])
@pytest.mark.parametrize("path", [CHAT, "/v1/jobs", "/v1/jobs/{}/cancel", "/v1/jobs/{}/retry"])
async def test_a_bad_key_is_refused(http: httpx.AsyncClient, path: str, key: bytes) -> None:
    body = {CHAT: chat(), "/v1/jobs": job()}.get(path)
    url = path.format(await submit(http)) if body is None else path
    response = await http.post(url, json=body or {}, headers={b"idempotency-key": key})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "Idempotency-Key")


async def test_two_keys_are_refused(http: httpx.AsyncClient) -> None:
    headers = [("idempotency-key", "a"), ("idempotency-key", "b")]
    response = await http.post("/v1/jobs", json=job(), headers=headers)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "Idempotency-Key")


async def test_owners_do_not_meet(start_api: StartApi) -> None:
    api = start_api(api_keys=("one", "two"))
    found = []
    async with httpx.AsyncClient(base_url=api.url) as http:
        for key in ("one", "two"):
            headers = {"authorization": f"Bearer {key}", **KEY}
            found.append(await http.post("/v1/jobs", json=job(), headers=headers))
    assert [response.status_code for response in found] == [202, 202]
    assert found[0].json()["id"] != found[1].json()["id"]


async def test_a_whole_chat_repeated_in_flight(
    http: httpx.AsyncClient, other_http: httpx.AsyncClient, store: JobStore
) -> None:
    async with FakeWorker(store, says(["a", "b"], gap_s=0.2)) as worker:
        first = asyncio.create_task(http.post(CHAT, json=chat(), headers=KEY))
        while not worker.num_claims:
            await asyncio.sleep(0.005)
        again = await other_http.post(CHAT, json=chat(), headers=KEY)
        after = await http.post(CHAT, json=chat(), headers=KEY)
    assert (await first).json() == again.json() == after.json()
    assert again.headers[REPLAYED] == after.headers[REPLAYED] == "true"
    assert worker.num_claims == 1


async def test_a_streamed_chat_repeated_begins_anew_or_goes_on(
    http: httpx.AsyncClient, other_http: httpx.AsyncClient, store: JobStore
) -> None:
    body = chat(stream=True, stream_options={"include_usage": True})
    async with FakeWorker(store, hello) as worker:
        first = await http.post(CHAT, json=body, headers=KEY)
        whole = blocks(first.content)
        again = await other_http.post(CHAT, json=body, headers=KEY)
        assert Text.of(blocks(again.content)) == Text.of(whole)
        assert again.headers[REPLAYED] == "true" and again.headers["x-job-id"] == first.headers["x-job-id"]
        rest = await other_http.post(CHAT, json=body, headers={**KEY, "last-event-id": whole[0].id})
        assert Text.of([whole[0], *blocks(rest.content)]) == Text.of(whole)
        nothing = await http.post(CHAT, json=body, headers={**KEY, "last-event-id": whole[-1].id})
        assert (nothing.status_code, nothing.content) == (204, b"")
    assert worker.num_claims == 1


async def test_a_client_that_lost_its_connection_repeats(
    http: httpx.AsyncClient, other_http: httpx.AsyncClient, store: JobStore
) -> None:
    body = chat(stream=True)
    async with FakeWorker(store) as worker:
        asking = asyncio.create_task(_first_block(http, body))
        running = await worker.claimed()
        await running.say("a")
        first = await asking
        # The job pauses once its reader has left, and goes on when it is back.
        repeated = asyncio.create_task(other_http.post(CHAT, json=body, headers=KEY))
        answer = await running.say("b")
        if answer.kind == "not yours":
            running = await worker.claimed()
            await running.say("b")
        if (await running.complete()).kind == "not yours":
            await (await worker.claimed()).complete()
        response = await repeated
    assert Text.of(blocks(response.content)).texts == {0: "ab"}
    assert blocks(response.content)[0].json["id"] == first.json["id"]


async def _first_block(http: httpx.AsyncClient, body: dict[str, object]) -> Block:
    async with http.stream("POST", CHAT, json=body, headers=KEY) as response:
        return await anext(read_blocks(response))


async def test_a_cursor_of_a_chat_that_is_gone(http: httpx.AsyncClient, store: JobStore) -> None:
    body = chat(stream=True)
    async with FakeWorker(store, hello):
        first = await http.post(CHAT, json=body, headers=KEY)
        last_id = blocks(first.content)[0].id
        await http.delete(f"/v1/jobs/{first.headers['x-job-id']}")
        response = await http.post(CHAT, json=body, headers={**KEY, "last-event-id": last_id})
        assert (response.status_code, response.json()["error"]["code"]) == (410, "stream_expired")
        anew = await http.post(CHAT, json=body, headers=KEY)
        assert (anew.status_code, REPLAYED in anew.headers) == (200, False)


async def test_nobody_served_it_and_the_key_is_free(start_api: StartApi, store: JobStore) -> None:
    api = start_api(first_output_wait_s=0.2)
    async with httpx.AsyncClient(base_url=api.url, timeout=20) as http:
        refused = await http.post(CHAT, json=chat(), headers=KEY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_worker")
        async with FakeWorker(store, hello):
            again = await http.post(CHAT, json=chat(), headers=KEY)
    assert (again.status_code, REPLAYED in again.headers) == (200, False)


async def test_cancelling_with_a_key(http: httpx.AsyncClient) -> None:
    ids = [await submit(http) for _ in range(2)]
    first, again = [await http.post(f"/v1/jobs/{ids[0]}/cancel", headers=KEY) for _ in range(2)]
    assert first.json() == again.json() and again.json()["status"] == "cancelled"
    assert REPLAYED not in first.headers and again.headers[REPLAYED] == "true"
    other = await http.post(f"/v1/jobs/{ids[1]}/cancel", headers=KEY)
    assert other.status_code == 409
    assert (await http.get(f"/v1/jobs/{ids[1]}")).json()["status"] == "queued"


async def test_retrying_with_a_key(http: httpx.AsyncClient, other_http: httpx.AsyncClient) -> None:
    job_id = await submit(http)
    await http.post(f"/v1/jobs/{job_id}/cancel")
    first = await http.post(f"/v1/jobs/{job_id}/retry", headers=KEY)
    again = await other_http.post(f"/v1/jobs/{job_id}/retry", headers=KEY)
    assert first.json() == again.json() and again.headers[REPLAYED] == "true"
    assert len((await http.get("/v1/jobs")).json()["data"]) == 2


async def test_the_key_is_forgotten_with_its_job(http: httpx.AsyncClient) -> None:
    first = await http.post("/v1/jobs", json=job(), headers=KEY)
    await http.delete(f"/v1/jobs/{first.json()['id']}")
    anew = await http.post("/v1/jobs", json=job(priority="low"), headers=KEY)
    assert anew.status_code == 202 and anew.json()["id"] != first.json()["id"]

"""/v1/workers: the list, and telling one to leave."""

from __future__ import annotations

import dataclasses

import httpx

from shared.domain.fingerprint import Fingerprint
from shared.domain.lease import Lease
from shared.store.job_store import JobStore
from tests.integration.api.conftest import StartApi

FINGERPRINT = Fingerprint("rev", "float32", "MKL", "2.13", "a CPU", "d1", "1", threads=2)
FIRST = Lease("w1.a", "w1", "test", "north", 7, "cpu", 4, "rev", True, FINGERPRINT)
NAMESAKE = dataclasses.replace(FIRST, worker_instance="w1.b", host="south")


async def test_a_worker_is_listed_and_drained_by_any_of_its_names(
    http: httpx.AsyncClient, store: JobStore
) -> None:
    for name in ("w1", "w1@north", "w1.a"):
        await store.register(FIRST)
        shown = {
            "id": "w1.a",
            "object": "worker",
            "name": "w1",
            "host": "north",
            "pid": 7,
            "device": "cpu",
            "model": "test",
            "status": "ready",
            "jobs": 0,
            "slots": 4,
            "exact": True,
            "fingerprint": FINGERPRINT.to_json(),
            "stats": {},
        }
        assert (await http.get("/v1/workers")).json() == {"object": "list", "data": [shown]}
        for _ in range(2):
            told = await http.post(f"/v1/workers/{name}/drain")
            assert (told.status_code, told.json()) == (202, {**shown, "status": "draining"})
        assert [worker.is_draining for worker in await store.workers()] == [True]
        await store.release("w1.a", "drain", died=False)


async def test_a_name_that_nobody_or_more_than_one_has_is_refused(
    http: httpx.AsyncClient, store: JobStore
) -> None:
    missing = await http.post("/v1/workers/w1/drain")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "worker_not_found")
    await store.register(FIRST)
    await store.register(NAMESAKE)
    both = await http.post("/v1/workers/w1/drain")
    assert (both.status_code, both.json()["error"]["code"]) == (409, "worker_ambiguous")
    assert not any(worker.is_draining for worker in await store.workers())
    assert (await http.post("/v1/workers/w1@south/drain")).json()["id"] == "w1.b"


async def test_a_key_is_needed(start_api: StartApi) -> None:
    async with httpx.AsyncClient(base_url=start_api(api_keys=("secret",)).url) as client:
        for call in (client.get("/v1/workers"), client.post("/v1/workers/w1/drain")):
            response = await call
            assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
        listed = await client.get("/v1/workers", headers={"authorization": "Bearer secret"})
        assert listed.status_code == 200


async def test_a_page_of_another_site_drains_nobody(http: httpx.AsyncClient) -> None:
    refused = await http.post("/v1/workers/w1/drain", headers={"sec-fetch-site": "cross-site"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "cross_site_request")

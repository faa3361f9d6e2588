"""What a key may do, and what is said of keys, hosts and pages that may do nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from shared.domain.lease import Lease
from shared.store.job_store import JobStore
from tests.integration.api.conftest import StartApi
from tests.integration.api.requests import CHAT, chat, job

ALICE, ADMIN = ({"authorization": f"Bearer {key}"} for key in ("sk-alice", "sk-admin"))
LEASE = Lease("w1.a", "w1", "test", "north", 7, "cpu", 4, "rev")
EVIL = "https://evil.example"


@pytest.fixture
async def keyed(start_api: StartApi) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a replica with keys."""
    api = start_api(api_keys=("sk-alice",), admin_keys=("sk-admin",), cors_origins=("https://app.example",))
    async with httpx.AsyncClient(base_url=api.url) as client:
        yield client


async def test_the_priority_high_needs_a_scope(keyed: httpx.AsyncClient) -> None:
    refused = await keyed.post("/v1/jobs", json=job(priority="high"), headers=ALICE)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (403, "insufficient_scope")
    assert "'high'" in error["message"] and "'admin'" in error["message"]
    assert (await keyed.post("/v1/jobs", json=job(priority="normal"), headers=ALICE)).status_code == 202
    assert (await keyed.post("/v1/jobs", json=job(priority="high"), headers=ADMIN)).status_code == 202


async def test_draining_needs_a_scope(keyed: httpx.AsyncClient, store: JobStore) -> None:
    await store.register(LEASE)
    refused = await keyed.post("/v1/workers/w1/drain", headers=ALICE)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
    assert (await keyed.get("/v1/workers", headers=ALICE)).status_code == 200
    assert (await keyed.post("/v1/workers/w1/drain", headers=ADMIN)).status_code == 202


async def test_an_admin_sees_and_ends_other_owners_jobs(keyed: httpx.AsyncClient) -> None:
    url = (await keyed.post("/v1/jobs", json=job(), headers=ALICE)).json()["urls"]["get"]
    own = (await keyed.post("/v1/jobs", json=job(), headers=ADMIN)).json()["urls"]["get"]
    assert (await keyed.get(own, headers=ALICE)).status_code == 404
    assert (await keyed.delete(own, headers=ALICE)).status_code == 404
    assert (await keyed.get(url, headers=ADMIN)).json()["status"] == "queued"
    assert (await keyed.post(f"{url}/cancel", headers=ADMIN)).json()["status"] == "cancelled"
    assert (await keyed.delete(url, headers=ADMIN)).json()["deleted"] is True
    assert (await keyed.get(url, headers=ALICE)).status_code == 404


async def test_no_key_and_a_wrong_one_are_told_apart(keyed: httpx.AsyncClient) -> None:
    messages = []
    for headers in ({}, {"authorization": "Bearer sk-wrong"}):
        response = await keyed.post(CHAT, json=chat(), headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
        messages.append(response.json()["error"]["message"])
    assert messages[0].startswith("No API key was sent") and messages[1].startswith("Incorrect API key")
    two = [("authorization", "Bearer sk-alice"), ("authorization", "Bearer sk-admin")]
    assert (await keyed.get("/v1/models", headers=two)).status_code == 400


async def test_with_keys_every_host_is_served(keyed: httpx.AsyncClient) -> None:
    assert (await keyed.get("/v1/models", headers={**ALICE, "host": "baton.example"})).status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/jobs", "/v1/workers"])
async def test_without_keys_only_loopback_names_are_served(http: httpx.AsyncClient, path: str) -> None:
    refused = await http.get(path, headers={"host": "evil.example"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "host_not_allowed")
    assert "BATON_API_KEYS" in refused.json()["error"]["message"]
    for host in ("localhost:8000", "127.0.0.1", "[::1]:1"):
        assert (await http.get(path, headers={"host": host})).status_code == 200


@pytest.mark.parametrize("site", ["same-site", "cross-site"])
async def test_without_keys_pages_of_other_origins_may_not_act(http: httpx.AsyncClient, site: str) -> None:
    headers = {"sec-fetch-site": site, "origin": EVIL}
    refused = await http.post("/v1/jobs", json=job(), headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "cross_site_request")
    headers["origin"] = "http://localhost:3000"
    assert (await http.post("/v1/jobs", json=job(), headers=headers)).status_code == 202


async def test_pages_of_allowed_origins_may_ask_and_read(keyed: httpx.AsyncClient) -> None:
    for origin in ("https://app.example", "http://localhost:3000", "http://[::1]"):
        preflight = await keyed.options(
            CHAT,
            headers={
                "origin": origin,
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization, content-type, idempotency-key",
            },
        )
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == origin
        refused = await keyed.post(CHAT, json=chat(), headers={"origin": origin})
        assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, origin)
        exposed = refused.headers["access-control-expose-headers"]
        for name in (
            "x-request-id",
            "x-job-id",
            "x-ignored-parameters",
            "retry-after",
            "idempotent-replayed",
        ):
            assert name in exposed


async def test_pages_of_other_origins_may_not_read(keyed: httpx.AsyncClient) -> None:
    response = await keyed.get("/v1/models", headers={**ALICE, "origin": EVIL})
    assert response.status_code == 200 and "access-control-allow-origin" not in response.headers


async def test_metrics_and_docs_are_public_unless_they_are_not(
    keyed: httpx.AsyncClient, start_api: StartApi
) -> None:
    pages = ("/metrics", "/docs", "/openapi.json")
    assert [(await keyed.get(page)).status_code for page in pages] == [200, 200, 200]
    api = start_api(api_keys=("sk-alice",), admin_keys=("sk-admin",), public_pages=())
    async with httpx.AsyncClient(base_url=api.url) as http:
        assert [(await http.get(page, headers=ADMIN)).status_code for page in pages] == [200, 404, 404]
        assert (await http.get("/metrics")).status_code == 401
        refused = await http.get("/metrics", headers=ALICE)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "insufficient_scope")
        assert (await http.get("/health/live")).status_code == 200


async def test_two_keys_at_once_are_refused(keyed: httpx.AsyncClient) -> None:
    for first, second in ((ALICE, ADMIN), (ALICE, ALICE)):
        headers = [*first.items(), *second.items()]
        refused = await keyed.get("/v1/models", headers=headers)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_authorization")

"""Health, metrics and models."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime

import httpx
import pytest
from openai.types import Model

from shared.domain.lease import Lease
from shared.store.job_store import JobStore
from tests.fake_worker import FakeWorker, says
from tests.integration.api.conftest import StartApi
from tests.integration.api.requests import chat, job, stream


@pytest.fixture
async def fresh_http(start_api: StartApi) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a replica that has served nothing yet."""
    async with httpx.AsyncClient(base_url=start_api().url) as client:
        yield client


async def test_ready_names_what_is_missing(http: httpx.AsyncClient, store: JobStore) -> None:
    for path in ("/health", "/health/ready"):
        response = await http.get(path)
        assert (response.status_code, response.json()["missing"]) == (503, ["worker"])
        assert response.json()["error"]["code"] == "not_ready" and response.headers["retry-after"]
    async with FakeWorker(store, model="other"):
        assert (await http.get("/health/ready")).status_code == 503
    async with FakeWorker(store):
        assert (await http.get("/health/ready")).json() == {
            "status": "ok",
            "checks": {"redis": True, "broker": True, "worker": True},
        }
    assert (await http.get("/health/live")).json() == {"status": "ok"}


async def test_health_is_told_to_those_who_ask_for_heads_alone(http: httpx.AsyncClient) -> None:
    for path, status in (("/health/live", 200), ("/health", 503), ("/health/ready", 503)):
        response = await http.head(path)
        assert (response.status_code, response.content) == (status, b"")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/jobs", "GET, POST"),
        ("/v1/jobs/x", "DELETE, GET"),
        ("/health", "GET, HEAD"),
        ("/v1/models", "GET"),
    ],
)
async def test_a_method_that_is_not_allowed_is_told_all_that_are(
    http: httpx.AsyncClient, path: str, allowed: str
) -> None:
    response = await http.put(path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    assert response.json()["error"]["message"] == f"PUT is not allowed for {path}"


@pytest.mark.parametrize("path", ["/v1/chat/completions/job_x", "/v1/chat/completions/job_x/events"])
async def test_an_id_of_another_form_is_told_as_it_came(http: httpx.AsyncClient, path: str) -> None:
    response = await http.get(path)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "job_not_found")
    assert "'job_x'" in response.json()["error"]["message"]


async def test_models_are_those_that_are_served_now(fresh_http: httpx.AsyncClient, store: JobStore) -> None:
    http = fresh_http
    nothing = {"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}
    assert (await http.get("/v1/models")).json() == nothing
    began = int(time.time())
    async with FakeWorker(store, model="org/other"), FakeWorker(store):
        listed = (await http.get("/v1/models")).json()
        assert [model["id"] for model in listed["data"]] == ["test", "org/other"]
        assert (listed["first_id"], listed["last_id"], listed["has_more"]) == ("test", "org/other", False)
        found = (await http.get("/v1/models/org/other")).json()
        assert found in listed["data"] and began <= found["created"] <= time.time()
    created = found["created"]
    missing = await http.get("/v1/models/org/other")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
    assert (await http.post("/v1/jobs", json=job(chat(model="org/other")))).status_code == 202
    async with FakeWorker(store, model="org/other"):
        assert (await http.get("/v1/models/org/other")).json()["created"] == created


async def test_a_model_is_one_object_for_the_clients_of_all_apis(
    fresh_http: httpx.AsyncClient, store: JobStore
) -> None:
    for number, length in enumerate((8192, 4096, None)):
        lease = Lease(f"w.{number}", "w", "test", "host", 1, "cpu", 1, "rev", max_model_len=length)
        await store.register(lease)
    (model,) = (await fresh_http.get("/v1/models")).json()["data"]
    assert Model.model_validate(model).owned_by == "baton"
    assert (model["max_model_len"], model["max_input_tokens"]) == (4096, 4096)
    assert (
        model["type"] == "model"
        and datetime.fromisoformat(model["created_at"]).timestamp() == model["created"]
    )


async def test_a_model_that_nobody_knows_is_not_found(http: httpx.AsyncClient) -> None:
    missing = await http.get("/v1/models/nobody")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


async def test_metrics(fresh_http: httpx.AsyncClient, store: JobStore) -> None:
    http = fresh_http
    await http.post("/v1/jobs", json=job())
    async with FakeWorker(store, model="other"):
        text = (await http.get("/metrics")).text
    for line in (
        'baton_http_requests_total{method="POST",route="/v1/jobs",status="202"} 1.0',
        'baton_http_request_duration_seconds_count{route="/v1/jobs"} 1.0',
        'baton_queue_jobs{model="test",priority="normal"} 1.0',
        'baton_jobs_in_progress{model="test"} 0.0',
        "baton_jobs_open 1.0",
        'baton_workers{model="other"} 1.0',
        'baton_worker_slots{device="cpu",model="other",worker="fake-0"} 64.0',
        "baton_redis_up 1.0",
        "baton_subscriptions 0.0",
        "baton_streams_open 0.0",
    ):
        assert line in text.splitlines()


async def test_refusals_are_counted_by_their_code(fresh_http: httpx.AsyncClient, store: JobStore) -> None:
    assert await store.models() == set()
    await fresh_http.get("/v1/models/nobody")
    await fresh_http.get("/no/such/path")
    lines = (await fresh_http.get("/metrics")).text.splitlines()
    assert 'baton_refusals_total{code="model_not_found"} 1.0' in lines
    assert 'baton_refusals_total{code="invalid_request_error"} 1.0' in lines
    assert 'baton_http_requests_total{method="GET",route="none",status="404"} 1.0' in lines


async def test_a_stream_is_measured(fresh_http: httpx.AsyncClient, store: JobStore) -> None:
    async with FakeWorker(store, says(["a", "b", "c"], gap_s=0.05)):
        await stream(fresh_http)
    lines = (await fresh_http.get("/metrics")).text.splitlines()
    assert 'baton_streams_total{outcome="complete"} 1.0' in lines
    assert "baton_streams_open 0.0" in lines
    assert "baton_time_to_first_token_seconds_count 1.0" in lines
    assert "baton_time_between_tokens_seconds_count 2.0" in lines


async def test_the_relays_lag_is_probed(fresh_http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(10):
        while "baton_relay_lag_seconds_count 0.0" in (await fresh_http.get("/metrics")).text:
            await asyncio.sleep(0.05)


async def test_request_ids(http: httpx.AsyncClient) -> None:
    kept = await http.get("/health/live", headers={"x-request-id": "mine-1"})
    assert kept.headers["x-request-id"] == "mine-1"
    replaced = await http.get("/health/live", headers={"x-request-id": "a b" * 100})
    assert replaced.headers["x-request-id"].startswith("req_")


async def test_health_is_open(start_api: StartApi) -> None:
    api = start_api(api_keys=("sk-a",))
    async with httpx.AsyncClient(base_url=api.url) as client:
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/v1/models")).status_code == 401

"""Health, metrics and models."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from shared.job_store import JobStore
from tests.fake_worker import FakeWorker
from tests.integration.api.conftest import StartApi
from tests.integration.api.requests import CHAT, chat, job


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
            "checks": {"redis": True, "worker": True},
        }
    assert (await http.get("/health/live")).json() == {"status": "ok"}


async def test_models_are_those_configured_and_those_ever_registered(
    fresh_http: httpx.AsyncClient, store: JobStore
) -> None:
    http = fresh_http
    model = {"object": "model", "created": 0, "owned_by": "baton"}
    assert (await http.get("/v1/models")).json() == {"object": "list", "data": [{"id": "test", **model}]}
    async with FakeWorker(store, model="org/other"):
        pass
    assert (await http.get("/v1/models/org/other")).json() == {"id": "org/other", **model}
    assert [m["id"] for m in (await http.get("/v1/models")).json()["data"]] == ["test", "org/other"]
    assert (await http.post("/v1/jobs", json=job(chat(model="org/other")))).status_code == 202
    missing = await http.get("/v1/models/nobody")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


async def test_metrics(fresh_http: httpx.AsyncClient, store: JobStore) -> None:
    http = fresh_http
    await http.post("/v1/jobs", json=job())
    async with FakeWorker(store, model="other"):
        text = (await http.get("/metrics")).text
    for line in (
        'baton_requests_total{route="/v1/jobs",status="202"} 1.0',
        'baton_queue_depth{model="test"} 1.0',
        "baton_redis_up 1.0",
        "baton_followers 0.0",
        "baton_streams_total 0.0",
    ):
        assert line in text.splitlines()
    assert 'worker="fake-0"' in text and CHAT not in text

"""What bad input gets: an error in OpenAI's form, and nobody else is disturbed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shared.errors import ErrorInfo
from shared.job_store import JobStore
from tests.fake_worker import ANSWER, FakeWorker, Running, hello
from tests.integration.api.conftest import StartApi
from tests.integration.api.requests import CHAT, chat, job
from tests.integration.api.server import ApiServer

JSON = {"content-type": "application/json"}
UNKNOWN = "job_" + "a" * 24


def check(response: httpx.Response, status: int, code: str | None, param: str | None = None) -> None:
    error = response.json()["error"]
    assert list(response.json()) == ["error"] and list(error) == ["message", "type", "param", "code"]
    assert (response.status_code, error["code"], error["param"]) == (status, code, param), error
    assert response.headers["x-request-id"]
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", [CHAT, "/v1/jobs"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"model":',
        b"{'model':1}",
        b"[]",
        b"null",
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b"[" * 10_000,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
async def test_malformed_json(http: httpx.AsyncClient, path: str, body: bytes) -> None:
    check(await http.post(path, content=body, headers=JSON), 400, None)


@pytest.mark.parametrize(
    ("fields", "status", "code", "param"),
    [
        ({"max_tokens": "5"}, 400, "invalid_type", "max_tokens"),
        ({"n": True}, 400, "invalid_type", "n"),
        ({"temperature": 3}, 400, "decimal_above_max_value", "temperature"),
        ({"messages": []}, 400, "empty_array", "messages"),
        ({"messages": [{"role": "x", "content": ""}]}, 400, "invalid_value", "messages[0].role"),
        ({"tools": []}, 400, "unsupported_parameter", "tools"),
        ({"foo": 1}, 400, "unknown_parameter", "foo"),
        ({"model": "nobody"}, 404, "model_not_found", "model"),
        ({"model": "../../etc/passwd"}, 404, "model_not_found", "model"),
        ({"model": "x" * 10_000}, 404, "model_not_found", "model"),
    ],
)
async def test_fields(
    http: httpx.AsyncClient, store: JobStore, fields: dict[str, Any], status: int, code: str, param: str
) -> None:
    check(await http.post(CHAT, json=chat(**fields)), status, code, param)
    in_job = await http.post("/v1/jobs", json=job(chat(**fields)))
    check(in_job, status, code, "model" if status == 404 else f"body.{param}")
    assert await store.active_ids(first=0, limit=10) == []


async def test_a_prompt_that_only_the_worker_finds_too_long(http: httpx.AsyncClient, store: JobStore) -> None:
    error = ErrorInfo("too long", "invalid_request_error", "messages", "context_length_exceeded", 400)

    async def refuse_long(running: Running) -> None:
        if len(running.job.body["messages"][0]["content"]) > 10:
            await running.fail(error)
        else:
            await hello(running)

    long = chat(messages=[{"role": "user", "content": "x" * 100}])
    async with FakeWorker(store, refuse_long):
        bad = [http.post(CHAT, json={**long, "stream": streamed}) for streamed in (True, False)] * 4
        answers = await asyncio.gather(http.post(CHAT, json=chat()), *bad)
    assert answers[0].json()["choices"][0]["message"]["content"] == "".join(ANSWER)
    for response in answers[1:]:
        check(response, 400, "context_length_exceeded", "messages")


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/jobs/{UNKNOWN}",
        f"/v1/jobs/{UNKNOWN}/events",
        f"{CHAT}/chatcmpl-{'a' * 24}",
        f"{CHAT}/chatcmpl-{'a' * 24}/events",
        f"{CHAT}/{UNKNOWN}",
        "/v1/jobs/*",
        "/v1/jobs/%0d%0a",
        "/v1/jobs/{}",
        "/v1/jobs/" + "x" * 10_000,
    ],
)
async def test_unknown_ids(http: httpx.AsyncClient, path: str) -> None:
    check(await http.get(path), 404, "job_not_found")


async def test_foreign_ids(start_api: StartApi, store: JobStore) -> None:  # noqa: ARG001  # empties Redis
    api = start_api(api_keys=("sk-a", "sk-b"))
    async with (
        httpx.AsyncClient(base_url=api.url, headers={"authorization": "Bearer sk-a"}) as mine,
        httpx.AsyncClient(base_url=api.url, headers={"authorization": "Bearer sk-b"}) as theirs,
    ):
        found = (await mine.post("/v1/jobs", json=job())).json()
        completion_id = found["id"].replace("job_", "chatcmpl-")
        for path in (found["urls"]["get"], found["urls"]["events"], f"{CHAT}/{completion_id}/events"):
            check(await theirs.get(path), 404, "job_not_found")
        check(await theirs.post(found["urls"]["cancel"]), 404, "job_not_found")
        assert (await theirs.get("/v1/jobs")).json()["data"] == []
        assert (await mine.get(found["urls"]["get"])).json()["status"] == "queued"


@pytest.mark.parametrize("key", [None, "Bearer", "Bearer sk-x", "Basic sk-a", "Bearer ' OR 1=1"])
async def test_keys(start_api: StartApi, key: str | None) -> None:
    api = start_api(api_keys=("sk-a",))
    headers = {} if key is None else {"authorization": key}
    async with httpx.AsyncClient(base_url=api.url, headers=headers) as http:
        for request in (http.post(CHAT, json=chat()), http.get("/v1/models"), http.get("/v1/jobs")):
            check(await request, 401, "invalid_api_key")
        assert (await http.get("/health/live")).status_code == 200


async def test_a_body_over_the_limit(start_api: StartApi) -> None:
    api = start_api(body_limit=100_000)
    body = json.dumps(chat(messages=[{"role": "user", "content": "x" * 100_000}])).encode()

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    async with httpx.AsyncClient(base_url=api.url, headers=JSON) as http:
        check(await http.post(CHAT, content=body), 413, "request_too_large")
        check(await http.post(CHAT, content=parts()), 413, "request_too_large")
        assert (await http.get("/health/live")).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
    ],
)
async def test_wrong_kinds_of_bodies(http: httpx.AsyncClient, headers: dict[str, str], status: int) -> None:
    check(await http.post(CHAT, content=json.dumps(chat()), headers=headers), status, None)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", CHAT, 405),
        ("DELETE", "/v1/models", 405),
        ("PUT", "/v1/jobs", 405),
        ("HEAD", "/v1/nothing", 404),
    ],
)
async def test_wrong_methods_and_paths(http: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    response = await http.request(method, path)
    assert response.status_code == status
    if method != "HEAD":
        check(response, status, None)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"NOT HTTP\r\n\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 1_000_000, 431),
    ],
)
async def test_what_is_not_http(api: ApiServer, raw: bytes, status: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(raw)
    async with asyncio.timeout(5):
        answer = await reader.readuntil(b"}}")
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert set(json.loads(answer.split(b"\r\n\r\n")[1])["error"]) == {"message", "type", "param", "code"}
    writer.close()


async def test_request_ids(http: httpx.AsyncClient) -> None:
    kept = await http.get("/health/live", headers={"x-request-id": "mine-1"})
    assert kept.headers["x-request-id"] == "mine-1"
    replaced = await http.get("/health/live", headers={"x-request-id": "a b" * 100})
    assert replaced.headers["x-request-id"].startswith("req_")

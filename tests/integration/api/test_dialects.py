"""A dialect of another kind on the real path: whole, streamed, resumed at every event, as a job, killed workers."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from api.delivery import stored_output
from shared.domain.output import Args, Close, Op, Open, Reasoning
from shared.domain.output import Text as PlainText
from shared.errors import ErrorInfo
from shared.store.job_store import JobStore
from tests.fake_worker import FakeWorker, Running
from tests.integration.api.conftest import StartApi
from tests.integration.api.requests import CHAT, chat
from tests.integration.api.server import MODEL
from tests.scripted_dialect import ScriptedDialect, create_scripted_app, whole_of
from tests.unit.api.streams import Block, blocks

DIALECT = ScriptedDialect()
PATH = DIALECT.endpoint
BODY = {"model": MODEL, "text": "hi"}
TEXT = "Long enough for several pages of the stream."


async def script(running: Running) -> None:
    """Thinks, speaks and calls a tool, in many events."""
    steps: list[tuple[str, tuple[Op, ...]]] = [
        ("", (Reasoning("hm"),)),
        ("!", ()),
        ("", (Close(), PlainText("So: "))),
        *[(letter, ()) for letter in TEXT],
        ("", (Open("f"), Args("{"))),
        ("}", ()),
    ]
    for text, ops in steps:
        await running.say(*([] if ops else [text]), ops=ops)
    await running.complete("tool_calls")


def read(found: list[Block]) -> list[dict[str, Any]]:
    return [block.json for block in found]


@pytest.fixture(autouse=True)
def _short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_output, "_PAGE", 7)


async def test_streamed_resumed_and_whole_all_agree(start_api: StartApi, store: JobStore) -> None:
    api, other = start_api(make_app=create_scripted_app), start_api(make_app=create_scripted_app)
    async with (
        FakeWorker(store, script),
        httpx.AsyncClient(base_url=api.url, timeout=20) as http,
        httpx.AsyncClient(base_url=other.url, timeout=20) as other_http,
    ):
        posted = await http.post(PATH, json={**BODY, "stream": True, "foo": 1})
        found = blocks(posted.content)
        object_id = DIALECT.object_id(posted.headers["x-job-id"])
        assert posted.headers["x-ignored-parameters"] == "foo"
        for cut in range(1, len(found)):
            headers = {"last-event-id": found[cut - 1].id}
            rest = await other_http.get(f"{PATH}/{object_id}/events", headers=headers)
            assert [*found[:cut], *blocks(rest.content.replace(b"retry: 1000\n", b""))] == found
        whole = (await other_http.get(f"{PATH}/{object_id}")).json()
        assert {"id": object_id, **whole_of(read(found))} == whole
        assert whole["items"][1] == {"kind": "text", "name": None, "text": "So: " + TEXT}
        again = (await http.post(PATH, json=BODY)).json()
        assert {**again, "id": object_id} == whole


async def test_a_job_shows_its_own_dialect(start_api: StartApi, store: JobStore) -> None:
    api = start_api(make_app=create_scripted_app)
    async with FakeWorker(store, script), httpx.AsyncClient(base_url=api.url, timeout=20) as http:
        submitted = await http.post("/v1/jobs", json={"endpoint": PATH, "body": BODY})
        path = submitted.json()["urls"]["get"]
        sse = blocks((await http.get(f"{path}/events")).content.replace(b"retry: 1000\n", b""))
        found = (await http.get(path)).json()
        accept, polled, after = {"accept": "application/json"}, list[dict[str, Any]](), ""
        while True:
            query = {"limit": "3", "after": after}
            page = (await http.get(f"{path}/events", params=query, headers=accept)).json()
            assert len(page["events"]) <= 3
            polled, after = [*polled, *page["events"]], page["cursor"]
            if page["done"]:
                break
    outputs = [block.json for block in sse if block.event == "job.output"]
    end = {"used": found["result"]["used"], "number": 10**6}
    assert {"id": found["result"]["id"], **whole_of([*outputs, end])} == found["result"]
    assert polled == [{"event": block.event, "id": block.id, "data": block.json} for block in sse]
    wrong = await http_error(start_api, {"endpoint": PATH, "body": chat()})
    assert wrong["param"] == "body.text"


async def http_error(start_api: StartApi, body: dict[str, Any]) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=start_api(make_app=create_scripted_app).url) as http:
        response = await http.post("/v1/jobs", json=body)
    assert response.status_code == 400
    error: dict[str, Any] = response.json()["error"]
    return error


async def test_a_worker_dies_between_two_operations(start_api: StartApi, store: JobStore) -> None:
    api = start_api(make_app=create_scripted_app)
    async with (
        httpx.AsyncClient(base_url=api.url, timeout=20) as http,
        FakeWorker(store, name="w-1") as first,
        http.stream("POST", PATH, json={**BODY, "stream": True}) as response,
    ):
        running = await first.claimed()
        await running.say("a", ops=[Close(), Open("f")])
        await store.release(first.worker_instance, "worker_died", died=True)
        async with FakeWorker(store, name="w-2") as second:
            running = await second.claimed()
            await running.say("", ops=[Args("{}")])
            await running.complete()
            raw = b"".join([part async for part in response.aiter_bytes()])
    items = whole_of(read(blocks(raw)))["items"]
    assert items == [
        {"kind": "text", "name": None, "text": "a"},
        {"kind": "args", "name": "f", "text": "{}"},
    ]


async def test_errors_have_the_dialects_form(start_api: StartApi, store: JobStore) -> None:
    async def fail(running: Running) -> None:
        await running.fail(ErrorInfo("no", code="nope", status=400))

    api = start_api(make_app=create_scripted_app, body_limit=1000)
    async with FakeWorker(store, fail), httpx.AsyncClient(base_url=api.url, timeout=20) as http:
        assert (await http.post(PATH, json=BODY)).json() == {"oops": "no", "code": "nope"}
        assert (await http.post(PATH, json={"text": 5})).json()["code"] is not None
        too_large = await http.post(PATH, content=json.dumps({"text": "x" * 2000}))
        assert (too_large.status_code, too_large.json()["code"]) == (413, "request_too_large")
        assert (await http.get(f"{PATH}/chatcmpl-x")).json()["code"] == "job_not_found"
        assert list((await http.post(CHAT, json={})).json()) == ["error"]


async def test_an_object_of_another_dialect_is_not_there(start_api: StartApi, store: JobStore) -> None:
    api = start_api(make_app=create_scripted_app)
    async with FakeWorker(store, script), httpx.AsyncClient(base_url=api.url, timeout=20) as http:
        job_id = (await http.post(CHAT, json=chat())).headers["x-job-id"]
        assert (await http.get(f"{PATH}/{DIALECT.object_id(job_id)}")).status_code == 404

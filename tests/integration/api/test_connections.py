"""Connections that end early, read slowly, or outlive their replica."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

from api.http.serving import stall_guard
from shared.cluster import reaper
from shared.domain.job import Job
from shared.store.job_store import JobStore
from tests.fake_worker import FakeWorker, Running
from tests.integration.api.conftest import StartApi
from tests.integration.api.requests import CHAT, chat, read_blocks, resume, submit
from tests.integration.api.server import ApiServer
from tests.unit.api.streams import Text, blocks


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def until_paused(store: JobStore, job_id: str) -> Job:
    async with asyncio.timeout(10):
        while not (job := await store.get(job_id)) or not job.is_paused:
            await asyncio.sleep(0.01)
        return job


def post(path: str, body: dict[str, Any]) -> bytes:
    raw = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(raw)}\r\n\r\n"
    return head.encode() + raw


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()


@pytest.mark.parametrize("behind", [b"", get("/health/live")], ids=["alone", "with a request behind it"])
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_leaves_pauses_its_chat(
    api: ApiServer, store: JobStore, *, streamed: bool, behind: bytes
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(post(CHAT, chat(stream=streamed)) + behind)
    async with FakeWorker(store) as worker:
        running = await worker.claimed()
        await running.say("a")
        await until(lambda: api.services.relay.num_subscriptions == 1)
        writer.close()
        await until(lambda: api.services.relay.num_subscriptions == 0)
        # It may come back: the job is paused, not cancelled.
        job = await until_paused(store, running.job.id)
        assert (job.status, job.end) == ("queued", (1,))


async def test_a_reader_that_left_for_good_ends_its_chat(
    start_api: StartApi, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "_PAUSED_PATIENCE_S", 2.0)
    api = start_api(reader_grace_s=0.5)
    async with FakeWorker(store) as worker, httpx.AsyncClient(base_url=api.url, timeout=20) as http:
        left, kept = [
            await asyncio.open_connection("127.0.0.1", api.port),
            asyncio.create_task(http.post(CHAT, json=chat())),
        ]
        kept_running = await worker.claimed()
        left[1].write(post(CHAT, chat(stream=True)))
        left_running = await worker.claimed()
        left[1].close()
        async with asyncio.timeout(12):
            while not (job := await store.get(left_running.job.id)) or not job.is_terminal:
                await asyncio.sleep(0.05)
        ended = await http.get(f"/v1/jobs/{left_running.job.id}")
        assert (ended.json()["status"], ended.json()["reason"]) == ("cancelled", "reader_gone")
        # The other one was read all the time.
        await kept_running.say("a")
        await kept_running.complete()
        assert (await kept).json()["choices"][0]["message"]["content"] == "a"


async def test_a_reader_who_stops_reading_is_cut_and_may_come_back(
    start_api: StartApi, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stall_guard, "STALL_S", 0.5)
    api = start_api(ping_s=0.2)
    stalled = ask_and_read_little(api, post(CHAT, chat(stream=True)))
    text, num = "x" * 10_000, 150
    async with FakeWorker(store) as worker, httpx.AsyncClient(base_url=api.url, timeout=20) as http:
        running = await worker.claimed()
        for _ in range(num):
            await running.say(text)
        await until(lambda: api.services.relay.num_subscriptions == 0)
        assert await asyncio.to_thread(_is_cut, stalled)
        stalled.close()
        await until_paused(store, running.job.id)
        resuming = asyncio.create_task(resume(http, running.job.id.replace("job_", "chatcmpl-")))
        await (await worker.claimed()).complete()
        response = await resuming
    assert len(Text.of(blocks(response.content)).texts[0]) == num * len(text)


@pytest.mark.parametrize("is_late", [True, False])
async def test_a_slow_reader_gets_it_all(
    start_api: StartApi, store: JobStore, monkeypatch: pytest.MonkeyPatch, *, is_late: bool
) -> None:
    # It takes ten times as long for the whole, and never so long for a piece.
    monkeypatch.setattr(stall_guard, "STALL_S", 0.5)
    api = start_api(ping_s=0.1)
    texts = [f"{number} ".ljust(1000, "x") for number in range(1500)]
    async with FakeWorker(store) as worker, httpx.AsyncClient(base_url=api.url, timeout=20) as http:
        job_id = await submit(http)
        running = await worker.claimed()
        if is_late:
            await say_all(running, texts)
        slow = ask_and_read_little(api, get(f"/v1/jobs/{job_id}/events"))
        reading = asyncio.create_task(asyncio.to_thread(_read_slowly, slow))
        if not is_late:
            await say_all(running, texts)
        received = await reading
        slow.close()
    assert received.endswith(b"0\r\n\r\n")
    said = [block for block in blocks(_unchunked(received)) if block.event == "job.output"]
    assert Text.of(said).texts == {0: "".join(texts)}


async def say_all(running: Running, texts: Sequence[str]) -> None:
    for text in texts:
        await running.say(text)
    await running.complete()


def ask_and_read_little(api: ApiServer, request: bytes) -> socket.socket:
    """A connection of a client whose system has room for little."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", api.port))
    connection.sendall(request)
    return connection


def _read_slowly(connection: socket.socket) -> bytes:
    received = b""
    while part := connection.recv(4096):
        received += part
        if received.endswith(b"0\r\n\r\n"):
            break
        time.sleep(0.01)
    return received


def _unchunked(received: bytes) -> bytes:
    """The body of a response in chunks, from `retry:` on without it."""
    rest, body = received.partition(b"\r\n\r\n")[2], b""
    while rest:
        length, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(length, 16)], rest[int(length, 16) + 2 :]
    return body.replace(b"retry: 1000\n", b"").replace(b": ping\n", b"")


def _is_cut(connection: socket.socket) -> bool:
    """Read what there is: it ends without the end of the chunked body."""
    received = b""
    try:
        while part := connection.recv(1 << 20):
            received = (received + part)[-10:]
    except ConnectionResetError:
        return True
    return not received.endswith(b"0\r\n\r\n")


async def test_a_replica_that_stops_lets_streams_run_for_a_while(
    start_api: StartApi, store: JobStore
) -> None:
    api = start_api(drain_s=5)
    async with FakeWorker(store) as worker, httpx.AsyncClient(base_url=api.url, timeout=20) as http:
        asking = asyncio.create_task(http.post(CHAT, json=chat(stream=True)))
        running = await worker.claimed()
        await running.say("a")
        api.begin_exit()
        await asyncio.sleep(0.2)
        with pytest.raises(httpx.ConnectError):
            async with httpx.AsyncClient(base_url=api.url) as late:
                await late.get("/health/live")
        await running.say("b")
        await running.complete()
        assert Text.of(blocks((await asking).content)).texts == {0: "ab"}
        await asyncio.to_thread(api.join)


async def test_then_it_leaves_them_incomplete(
    start_api: StartApi, other_http: httpx.AsyncClient, store: JobStore
) -> None:
    api = start_api(drain_s=0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    async with FakeWorker(store) as worker, httpx.AsyncClient(base_url=api.url, timeout=20) as http:
        writer.write(post(CHAT, chat(stream=True)))
        running = await worker.claimed()
        await running.say("a")
        whole = asyncio.create_task(http.post(CHAT, json=chat()))
        waited_for = await worker.claimed()
        received = await reader.readuntil(b"\n\n")
        begun = time.monotonic()
        api.begin_exit()
        # Neither the last chunk of the body nor `[DONE]`: the client notices.
        rest = await reader.read()
        assert b"[DONE]" not in rest and not rest.endswith(b"0\r\n\r\n")
        assert 0.2 < time.monotonic() - begun < 3
        assert (await whole).status_code == 503
        assert (await whole).json()["error"]["code"] == "shutting_down"
        writer.close()
        await asyncio.to_thread(api.join)
        # A client that got a 503 repeats its request: the job of the first one does not run on.
        job = await store.get(waited_for.job.id)
        assert job is not None and job.is_paused
        # Another replica has the rest.
        last = blocks(received[received.index(b"\nid: ") + 1 :])[0]
        taking_up = asyncio.create_task(resume(other_http, last.json["id"], last.id))
        await running.say("b")
        await running.complete()
        assert Text.of([last, *blocks((await taking_up).content)]).texts == {0: "ab"}


async def test_two_readers_of_one_job(
    http: httpx.AsyncClient, other_http: httpx.AsyncClient, store: JobStore
) -> None:
    async with FakeWorker(store) as worker:
        job_id = await submit(http)
        running = await worker.claimed()
        readings = [
            asyncio.create_task(client.get(f"/v1/jobs/{job_id}/events"))
            for client in (http, http, other_http)
        ]
        for text in "abc":
            await running.say(text)
        await running.complete()
        contents = {(await reading).content.replace(b"retry: 1000\n", b"") for reading in readings}
    assert len(contents) == 1


async def test_the_stream_of_a_queued_job_begins_at_once(http: httpx.AsyncClient) -> None:
    job_id = await submit(http)
    async with http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        assert (await anext(read_blocks(response))).event == "job.queued"

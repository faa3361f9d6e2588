"""What one connection may cost: pipelined requests, bodies, unread answers, clients that vanish."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from api.http.serving import sockets, stall_guard
from shared.store.job_store import JobStore
from tests.api_process import ApiProcess
from tests.fake_worker import FakeWorker
from tests.integration.api.conftest import StartApi
from tests.integration.api.requests import CHAT, chat, submit
from tests.integration.api.server import MODEL, ApiServer
from tests.integration.api.test_connections import get, post, until, until_paused
from tests.redis_server import RedisServer

MAX_GROWTH_BYTES = 24 * 1024 * 1024
#: Not in Python's socket module.
_TCP_REPAIR = 19
LIVE = get("/health/live")


@pytest.fixture
def process(redis_server: RedisServer, store: JobStore) -> Iterator[ApiProcess]:  # noqa: ARG001  # empties Redis
    process = ApiProcess(redis_server.url, MODEL)
    process.start()
    process.wait_up()
    yield process
    process.kill()


def connect(port: int) -> socket.socket:
    """A client whose system has room for little."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", port))
    return connection


def send_what_is_taken(connection: socket.socket, data: bytes) -> int:
    """Send until the server takes nothing more for a second. Returns how much it took."""
    connection.settimeout(1)
    num_sent = 0
    with contextlib.suppress(TimeoutError, ConnectionError):
        while num_sent < len(data):
            num_sent += connection.send(data[num_sent : num_sent + 65_536])
    return num_sent


BIG_BODY = post(CHAT, chat(metadata={"a": "x" * 60_000}))
CHUNKED = (
    b"POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    + b"1\r\nx\r\n" * 500_000
)


@pytest.mark.parametrize(
    "data",
    [LIVE * 400_000, b"GET / HTTP/1.1\r\n\r\n" * 1_000_000, get("/openapi.json") * 100_000, BIG_BODY * 300],
    ids=["short requests", "the shortest ones", "large answers", "bodies"],
)
async def test_pipelined_requests_whose_answers_nobody_reads(process: ApiProcess, data: bytes) -> None:
    httpx.get(f"{process.url}/openapi.json")
    before = process.rss_bytes
    connections = [connect(process.port) for _ in range(2)]
    taken = [await asyncio.to_thread(send_what_is_taken, connection, data) for connection in connections]
    growth = process.rss_bytes - before
    assert growth < MAX_GROWTH_BYTES, f"{growth >> 20} MiB for {[num >> 10 for num in taken]} KiB"
    # Others are served.
    assert httpx.get(f"{process.url}/health/live").status_code == 200
    for connection in connections:
        connection.close()


async def test_pipelined_requests_whose_answers_are_read(api: ApiServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    paths = [f"/nowhere/{number}" for number in range(3000)]
    requests = b"".join([post(path, chat()) if at % 3 else get(path) for at, path in enumerate(paths)])
    sending = asyncio.create_task(_send(writer, requests))
    for path in paths:
        head = await reader.readuntil(b"\r\n\r\n")
        (length,) = [
            line.split(b": ")[1] for line in head.split(b"\r\n") if line.startswith(b"content-length")
        ]
        assert f"{path})".encode() in await reader.readexactly(int(length))
    await sending
    writer.close()


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def test_a_body_in_many_chunks_behind_another_request(api: ApiServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    sending = asyncio.create_task(_send(writer, LIVE + CHUNKED + b"0\r\n\r\n" + LIVE))
    for status in (b"200", b"400", b"200"):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.split(b" ")[1] == status
        await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
    await sending
    writer.close()


async def test_a_whole_answer_that_nobody_reads_is_cut(
    start_api: StartApi, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stall_guard, "STALL_S", 0.5)
    api = start_api()
    async with FakeWorker(store) as worker, httpx.AsyncClient(base_url=api.url, timeout=20) as http:
        job_id = await submit(http)
        running = await worker.claimed()
        for _ in range(80):
            await running.say("x" * 10_000)
        await running.complete()
        for last in (b"", b"connection: close\r\n"):
            with connect(api.port) as connection:
                asked = get(f"/v1/jobs/{job_id}?output=true").removesuffix(b"\r\n") + last + b"\r\n"
                connection.sendall(asked)
                assert await asyncio.to_thread(_is_reset, connection)


def _is_reset(connection: socket.socket) -> bool:
    """Whether the server cuts the connection before anything was read."""
    deadline = time.monotonic() + 10
    connection.settimeout(10)
    while time.monotonic() < deadline:
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return True
        time.sleep(0.01)
    return False


def vanish(connection: socket.socket) -> None:
    """Close a connection without a word to the server, as a machine that lost its power."""
    try:
        connection.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
    except PermissionError:
        pytest.skip("needs CAP_NET_ADMIN")
    connection.close()


@pytest.mark.parametrize("path", [CHAT, "/v1/jobs/{}?wait=30"])
async def test_a_client_that_vanished_while_it_waits_is_noticed(
    start_api: StartApi, store: JobStore, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Nothing is sent to it meanwhile, which it would have to acknowledge."""
    monkeypatch.setitem(sockets.OPTIONS, "TCP_KEEPIDLE", 1)
    api = start_api()
    async with FakeWorker(store) as worker, httpx.AsyncClient(base_url=api.url, timeout=20) as http:
        connection = socket.create_connection(("127.0.0.1", api.port))
        if path == CHAT:
            connection.sendall(post(CHAT, chat()))
        else:
            connection.sendall(get(path.format(await submit(http, on_disconnect="pause"))))
        running = await worker.claimed()
        await until(lambda: api.services.relay.num_subscriptions == 1)
        vanish(connection)
        await until_paused(store, running.job.id)

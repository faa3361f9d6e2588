"""Streams through a real nginx in front of two real replicas: nothing held back, lost or done twice."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared import settings
from shared.store.job_store import JobStore
from tests.api_process import ApiProcess
from tests.fake_worker import FakeWorker, Running
from tests.free_port import free_port
from tests.integration.api.requests import CHAT, chat, job, read_blocks, resume, submit
from tests.integration.api.server import MODEL, ApiServer
from tests.integration.deploy.nginx import Nginx, find_nginx
from tests.redis_server import RedisServer
from tests.unit.api.streams import Block, Text, blocks

pytestmark = pytest.mark.skipif(
    find_nginx() is None, reason="NOT TESTED: there is no nginx; `apt-get install nginx` brings it"
)
StartNginx = Callable[..., Nginx]


@pytest.fixture
def start_nginx(tmp_path: Path) -> Iterator[StartNginx]:
    """Starts an nginx in front of these ports."""
    with ExitStack() as stack:

        def start(*ports: int, **options: int) -> Nginx:
            binary = find_nginx()
            assert binary is not None
            return stack.enter_context(Nginx(binary, tmp_path, list(ports), **options))

        yield start


@pytest.fixture(scope="module")
def _replicas(redis_server: RedisServer) -> Iterator[tuple[ApiServer, ApiServer]]:
    with ApiServer(redis_server.url, ping_s=0.05) as one, ApiServer(redis_server.url, ping_s=0.05) as other:
        yield one, other


@pytest.fixture
def replicas(_replicas: tuple[ApiServer, ApiServer], store: JobStore) -> tuple[ApiServer, ApiServer]:
    """Two replicas in this process, which tell what they do."""
    del store  # empties Redis
    return _replicas


@pytest.fixture
def processes(redis_server: RedisServer, store: JobStore) -> Iterator[tuple[ApiProcess, ApiProcess]]:
    """Two replicas that may be killed."""
    del store
    both = (ApiProcess(redis_server.url, MODEL), ApiProcess(redis_server.url, MODEL))
    try:
        for process in both:
            process.start()
        for process in both:
            process.wait_up()
        yield both
    finally:
        for process in both:
            process.kill()


@pytest.fixture
def nginx(replicas: tuple[ApiServer, ApiServer], start_nginx: StartNginx) -> Nginx:
    return start_nginx(*(replica.port for replica in replicas))


@pytest.fixture
async def http(nginx: Nginx) -> AsyncIterator[httpx.AsyncClient]:
    """A client of nginx."""
    async with httpx.AsyncClient(base_url=nginx.url, timeout=20) as client:
        yield client


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def content(block: Block) -> str:
    text = block.json["choices"][0]["delta"]["content"]
    assert isinstance(text, str)
    return text


@asynccontextmanager
async def begun(
    http: httpx.AsyncClient, worker: FakeWorker, on_disconnect: str = "pause"
) -> AsyncIterator[tuple[Running, Block, AsyncIterator[Block]]]:
    """A streamed chat whose first token, "a", was read: its job, that block, and what follows."""
    asking = asyncio.create_task(
        http.send(
            http.build_request(
                "POST", CHAT, json=chat(stream=True), headers={"x-on-disconnect": on_disconnect}
            ),
            stream=True,
        )
    )
    running = await worker.claimed()
    await running.say("a")
    response = await asking
    try:
        reading = read_blocks(response)
        yield running, await anext(reading), reading
    finally:
        await response.aclose()


async def test_events_of_a_chat_come_one_by_one(http: httpx.AsyncClient, store: JobStore) -> None:
    async with FakeWorker(store) as worker, begun(http, worker) as (running, first, reading):
        assert content(first) == "a"
        for text in ("b", "c"):
            # The next one is written only when this one was read.
            await running.say(text)
            assert content(await anext(reading)) == text
        await running.complete()
        assert [block.data async for block in reading][-1] == "[DONE]"


async def test_the_head_of_a_stream_does_not_wait_for_its_events(
    http: httpx.AsyncClient, store: JobStore
) -> None:
    job_id = await submit(http)
    async with FakeWorker(store) as worker, http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        reading = read_blocks(response)
        running = await worker.claimed()
        assert [(await anext(reading)).event for _ in "12"] == ["job.queued", "job.started"]
        for text in ("a", "b"):
            await running.say(text)
            assert content(await anext(reading)) == text
        await running.complete()
        assert [block.event async for block in reading][-1] == "job.completed"


async def test_a_stream_taken_up_by_id_comes_one_by_one_too(http: httpx.AsyncClient, store: JobStore) -> None:
    async with FakeWorker(store) as worker:
        # The worker keeps the job, whether its reader is back before it is missed or not.
        async with begun(http, worker, "continue") as (running, first, _):
            pass
        headers = {"last-event-id": first.id}
        async with http.stream("GET", f"{CHAT}/{first.json['id']}/events", headers=headers) as response:
            reading = read_blocks(response)
            for text in ("b", "c"):
                await running.say(text)
                assert content(await anext(reading)) == text
            await running.complete()
            assert [block.data async for block in reading][-1] == "[DONE]"


async def test_pings_pass_while_a_stream_is_silent(http: httpx.AsyncClient, store: JobStore) -> None:
    job_id = await submit(http)
    received = b""
    async with FakeWorker(store) as worker, http.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        running = await worker.claimed()
        async with asyncio.timeout(10):
            async for piece in response.aiter_bytes():
                received += piece
                if received.count(b": ping\n") == 2:
                    break
        await running.complete()


async def test_a_reload_in_mid_stream_loses_nothing(
    nginx: Nginx, http: httpx.AsyncClient, store: JobStore
) -> None:
    async with FakeWorker(store) as worker, begun(http, worker) as (running, first, reading):
        await asyncio.to_thread(nginx.reload)
        # New workers take new requests; the old one still has the stream.
        async with httpx.AsyncClient(base_url=nginx.url, timeout=20) as other:
            assert (await other.get("/health/live")).status_code == 200
        await running.say("b")
        found = [first, await anext(reading)]
        await running.say("c")
        await running.complete()
        found += [block async for block in reading]
    assert Text.of(found).texts == {0: "abc"}


async def test_a_client_that_leaves_is_noticed_by_the_api(
    nginx: Nginx, replicas: tuple[ApiServer, ApiServer], store: JobStore
) -> None:
    body = json.dumps(chat(stream=True)).encode()
    _, writer = await asyncio.open_connection("127.0.0.1", nginx.port)
    writer.write(
        b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % (CHAT.encode(), len(body))
    )
    writer.write(body)

    def num_subscriptions() -> int:
        return sum(replica.services.relay.num_subscriptions for replica in replicas)

    async with FakeWorker(store) as worker:
        await (await worker.claimed()).say("a")
        await until(lambda: num_subscriptions() == 1)
        writer.close()
        await until(lambda: num_subscriptions() == 0)


async def test_a_stream_goes_on_at_the_other_replica_when_its_own_is_killed(
    processes: tuple[ApiProcess, ApiProcess], start_nginx: StartNginx, store: JobStore
) -> None:
    nginx = start_nginx(*(process.port for process in processes))
    async with FakeWorker(store) as worker, httpx.AsyncClient(base_url=nginx.url, timeout=20) as http:
        async with begun(http, worker) as (running, first, reading):
            await running.say("b")
            found = [first, await anext(reading)]
            (serving,) = [process for process in processes if process.has_connections]
            serving.kill()
            await running.say("c")
            with pytest.raises(httpx.RemoteProtocolError):
                await anext(reading)
        taking_up = asyncio.create_task(resume(http, found[0].json["id"], found[-1].id))
        await running.say("d")
        await running.complete()
        response = await taking_up
        assert response.status_code == 200, response.text
    assert [content(block) for block in found] == ["a", "b"]
    assert Text.of([*found, *blocks(response.content)]).texts == {0: "abcd"}


async def test_a_post_goes_to_the_replica_that_lives(
    processes: tuple[ApiProcess, ApiProcess], start_nginx: StartNginx, store: JobStore
) -> None:
    nginx = start_nginx(*(process.port for process in processes))
    async with httpx.AsyncClient(base_url=nginx.url, timeout=20) as http, FakeWorker(store):
        for _ in range(4):  # nginx has connections to both
            await submit(http)
        processes[0].kill()
        ids = {await submit(http) for _ in range(20)}
        assert len(ids) == 20
        listed = (await http.get("/v1/jobs", params={"limit": "100"})).json()["data"]
        assert len(listed) == 24


async def test_a_post_that_a_dead_replica_had_is_not_sent_again(
    processes: tuple[ApiProcess, ApiProcess], start_nginx: StartNginx, store: JobStore
) -> None:
    nginx = start_nginx(*(process.port for process in processes))
    async with httpx.AsyncClient(base_url=nginx.url, timeout=20) as http, FakeWorker(store) as worker:
        asking = asyncio.create_task(http.post(CHAT, json=chat()))
        running = await worker.claimed()
        (serving,) = [process for process in processes if process.has_connections]
        serving.kill()
        refused = await asking
        assert (refused.status_code, refused.headers["retry-after"]) == (502, "2")
        assert refused.json()["error"]["code"] == "replica_unavailable"
        await running.complete()
        listed = (await http.get("/v1/jobs")).json()["data"]
    assert [one["id"] for one in listed] == [running.job.id]


async def test_no_replica_at_all_is_an_error_in_openai_form(start_nginx: StartNginx) -> None:
    nginx = start_nginx(1, 2)
    async with httpx.AsyncClient(base_url=nginx.url, timeout=20) as http:
        refused = await http.get("/v1/models")
        assert refused.status_code == 502
        assert set(refused.json()["error"]) == {"message", "type", "param", "code"}
        assert (await http.get("/nginx-health")).json() == {"status": "ok"}


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "//metrics", "/%6detrics", "/v1/../metrics?a=b"])
async def test_metrics_are_not_for_the_outside(nginx: Nginx, path: str) -> None:
    status, body = await raw(
        nginx, f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode()
    )
    assert (status, body["error"]["message"]) == (404, "Not found.")


@pytest.mark.parametrize(
    "begun",
    [
        b"POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-le",
        b"POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{",
    ],
)
async def test_a_request_that_does_not_come_in_reaches_no_replica(
    start_nginx: StartNginx, replicas: tuple[ApiServer, ApiServer], begun: bytes
) -> None:
    nginx = start_nginx(*(replica.port for replica in replicas), receipt_ms=200)
    reader, writer = await asyncio.open_connection("127.0.0.1", nginx.port)
    writer.write(begun)
    # Cut, without an answer that could be mistaken for the API's.
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()
    lines = [json.loads(line) for line in nginx.access_log.read_text().splitlines()]
    assert [(line["status"], line["upstream"]) for line in lines] == [(408, "")]


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_over_the_limit_is_refused_as_the_api_refuses_it(
    http: httpx.AsyncClient, replicas: tuple[ApiServer, ApiServer], *, is_chunked: bool
) -> None:
    size = int(settings.BODY_LIMIT.default) + 1
    async with httpx.AsyncClient(base_url=replicas[0].url, timeout=20) as direct:
        bare = await direct.post("/v1/jobs", content=b" " * size)

    async def pieces() -> AsyncIterator[bytes]:
        yield b" " * size

    refused = await http.post("/v1/jobs", content=pieces() if is_chunked else b" " * size)
    assert (refused.status_code, refused.json()) == (bare.status_code, bare.json())
    assert refused.json()["error"]["code"] == "request_too_large"


async def test_a_body_at_the_limit_arrives(http: httpx.AsyncClient) -> None:
    padding = " " * (int(settings.BODY_LIMIT.default) - len(json.dumps(job())))
    accepted = await http.post("/v1/jobs", content=json.dumps(job()) + padding)
    assert accepted.status_code == 202, accepted.text


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nhost: localhost\r\n" + b"x-filler: 0123456789\r\n" * 4000 + b"\r\n", 431),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: no\r\n\r\n", 400),
    ],
)
async def test_a_head_that_cannot_be_served_is_an_error_in_openai_form(
    nginx: Nginx, head: bytes, status: int
) -> None:
    found, body = await raw(nginx, head)
    assert found == status
    assert set(body["error"]) == {"message", "type", "param", "code"}


async def test_the_api_learns_who_asks_and_not_who_he_says_he_is(start_nginx: StartNginx) -> None:
    heads: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        nginx = start_nginx(server.sockets[0].getsockname()[1])
        async with httpx.AsyncClient(base_url=nginx.url) as http:
            await http.get(
                "/v1/models?ticket=secret",
                headers={
                    "x-forwarded-for": "203.0.113.9",
                    "x-real-ip": "203.0.113.9",
                    "x-request-id": "mine",
                },
            )
    (head,) = heads
    assert "203.0.113.9" not in head
    for line in ("x-real-ip: 127.0.0.1", "x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http"):
        assert f"\r\n{line}\r\n" in head
    assert f"\r\nhost: 127.0.0.1:{nginx.port}\r\n" in head and "\r\nx-request-id: mine\r\n" in head
    assert "\r\nconnection:" not in head
    # The query may hold a ticket: it is not logged. nginx logs a request after its answer.
    async with asyncio.timeout(10):
        while not (logged := nginx.access_log.read_text()):
            await asyncio.sleep(0.01)
    (line,) = logged.splitlines()
    assert json.loads(line)["path"] == "/v1/models" and "secret" not in line


@pytest.fixture
def flower_port(redis_server: RedisServer, tmp_path: Path) -> Iterator[int]:
    """A real Flower."""
    port = free_port()
    variables = {
        "BATON_REDIS_URL": redis_server.url,
        "BATON_FLOWER_AUTH": "me:secret",
        "BATON_FLOWER_PORT": str(port),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
    with (
        (tmp_path / "flower.log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "cli.flower_entry"], env=kept | variables, stdout=log, stderr=log
        ) as process,
    ):
        try:
            yield port
        finally:
            process.kill()


async def test_flower_is_there_for_those_who_know_its_password(
    start_nginx: StartNginx, flower_port: int
) -> None:
    nginx = start_nginx(1, flower_port=flower_port)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{nginx.flower_front_port}") as http:
        async with asyncio.timeout(30):
            while (answer := await http.get("/tasks")).status_code == 502:
                await asyncio.sleep(0.1)
        assert answer.status_code == 401
        assert (await http.get("/tasks", auth=("me", "wrong"))).status_code == 401
        assert (await http.get("/tasks", auth=("me", "secret"))).status_code == 200


async def raw(nginx: Nginx, request: bytes) -> tuple[int, Any]:
    """Status and JSON of what is answered to these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", nginx.port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)

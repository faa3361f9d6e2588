"""A thousand clients stop reading: what waits for them is bounded, and nobody else is harmed (goal R11)."""

from __future__ import annotations

import asyncio
import resource
import secrets
import socket
from collections.abc import Iterator

import httpx
import pytest

from api.http.auth import PUBLIC
from shared.domain.events import Completed, Output
from shared.domain.job import Job, NewJob, new_job_id
from shared.domain.lease import Lease
from shared.domain.output import ChoiceOutput, Finish
from shared.domain.request import GenerationRequest, TextPrompt
from shared.store.append import Append
from shared.store.job_store import JobStore
from tests.api_process import ApiProcess
from tests.integration.api.requests import read_blocks
from tests.integration.api.server import MODEL
from tests.redis_server import RedisServer

NUM_LIVE, NUM_LATE = 500, 500
NUM_TOKENS, TOKENS_AT_ONCE = 32_768, 16
MAX_BYTES_EACH = 256 * 1024
LEASE = Lease("w.1", "w", MODEL, "host", 1, "cpu", 9999, "rev")


@pytest.fixture
def api(redis_server: RedisServer, store: JobStore) -> Iterator[ApiProcess]:  # noqa: ARG001  # empties Redis
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard < 4096 else max(soft, 4096), hard))
    process = ApiProcess(redis_server.url, MODEL)
    process.start()
    process.wait_up()
    yield process
    process.kill()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def text_of(number: int) -> str:
    """Long, so that a client's system soon has no room for more."""
    return f"{number} ".ljust(64, "x")


async def take_job(store: JobStore) -> Job:
    """A new job, in hand."""
    await store.register(LEASE)
    await store.create(
        NewJob(new_job_id(), MODEL, PUBLIC, GenerationRequest((TextPrompt("x"),)), cancel_after_s=600)
    )
    job = await store.claim(LEASE, secrets.token_hex(8))
    assert isinstance(job, Job)
    return job


async def write(store: JobStore, job: Job, num_tokens: int) -> None:
    """So many tokens, and the end."""
    assert job.claim_token is not None
    for start in range(0, num_tokens, TOKENS_AT_ONCE):
        end = start + TOKENS_AT_ONCE
        texts = tuple(map(text_of, range(start, end)))
        finish = Finish("stop") if end == num_tokens else None
        output = Output((ChoiceOutput(0, start, tuple(range(start, end)), texts, finish),))
        over = Completed() if finish else None
        append = Append(job.id, job.claim_token, (start,), (end,), output=output, terminal=over)
        await store.append([append])


async def read(url: str, job: Job) -> str:
    """What a healthy reader gets, to the job's end."""
    text, kind = "", None
    async with (
        httpx.AsyncClient(timeout=60) as http,
        http.stream("GET", f"{url}/v1/jobs/{job.id}/events") as response,
    ):
        async for block in read_blocks(response):
            assert kind != "job.completed", "something behind the end"
            kind = block.event
            if kind == "job.output":
                text += block.json["choices"][0]["delta"]["content"]
    assert kind == "job.completed"
    return text


def stall(api: ApiProcess, job: Job, count: int) -> list[socket.socket]:
    """So many clients that ask for the job's events and read none."""
    connections = []
    for _ in range(count):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.connect(("127.0.0.1", api.port))
        connection.sendall(f"GET /v1/jobs/{job.id}/events HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        connections.append(connection)
    for connection in connections:
        assert connection.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 200"
    return connections


async def until_idle(api: ApiProcess) -> None:
    """Until it has done what it can for readers who take nothing."""
    async with asyncio.timeout(60):
        while True:
            before = api.cpu_s
            await asyncio.sleep(0.5)
            if api.cpu_s - before < 0.05:
                return


async def test_a_thousand_readers_that_stop_reading(api: ApiProcess, store: JobStore) -> None:
    # The first one makes what all share.
    first = await take_job(store)
    await write(store, first, 10 * TOKENS_AT_ONCE)
    await read(api.url, first)
    before = api.rss_bytes

    job = await take_job(store)
    stalled = await asyncio.to_thread(stall, api, job, NUM_LIVE)
    reading = asyncio.create_task(read(api.url, job))
    await write(store, job, NUM_TOKENS)
    rss = [api.rss_bytes]
    stalled += await asyncio.to_thread(stall, api, job, NUM_LATE)
    assert await reading == "".join(map(text_of, range(NUM_TOKENS)))
    await until_idle(api)
    rss.append(api.rss_bytes)
    each = (max(rss) - before) / len(stalled)
    for connection in stalled:
        connection.close()
    assert each <= MAX_BYTES_EACH, f"{each / 1024:.0f} KiB for each reader"

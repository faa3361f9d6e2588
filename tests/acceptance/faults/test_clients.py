"""What clients make of answers that are no output."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from tests.acceptance.faults.harness.clients import Client
from tests.acceptance.faults.harness.load import Load, Shape
from tests.acceptance.faults.verdict.checker import check
from tests.acceptance.faults.verdict.history import Ask, History
from tests.acceptance.faults.verdict.reference import Scripted

ASK = Ask("whole", seed=7, length=9, max_tokens=100)
Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def always(status: int, code: str) -> Answering:
    """To every request the same error, with the id of a job."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = json.dumps({"error": {"message": "", "type": "", "param": None, "code": code}}).encode()
        head = f"HTTP/1.1 {status} X\r\nx-job-id: job_a\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    return answer


@asynccontextmanager
async def served(answer: Answering) -> AsyncIterator[str]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def told(ask: Ask, status: int, code: str) -> History:
    async with served(always(status, code)) as url:
        return await Client(ask, [url], "m", random.Random(1)).run(5)


def faults(history: History, *, is_excused: bool) -> set[str]:
    history.is_excused = is_excused
    return {found.fault for found in check([history], {}, Scripted())}


@pytest.mark.parametrize("kind", ["whole", "waited", "polled", "events", "streamed", "late"])
@pytest.mark.parametrize(("status", "code"), [(404, "job_not_found"), (410, "stream_expired")])
async def test_a_job_that_redis_lost_is_over(kind: str, status: int, code: str) -> None:
    history = await told(replace(ASK, kind=kind), status, code)  # type: ignore[arg-type]
    assert history.is_lost and history.complaints == []
    assert faults(history, is_excused=True) == set()
    assert "vanished" in faults(history, is_excused=False)


async def test_another_error_is_excused_by_nothing() -> None:
    history = await told(ASK, 500, "internal_error")
    assert faults(history, is_excused=True) == {"complaint"}


async def test_who_has_no_answer_long_after_the_last_fault_hangs() -> None:
    has_asked = asyncio.Event()

    async def keep_waiting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        has_asked.set()
        await reader.read()
        writer.close()

    async with served(keep_waiting) as url:
        load = Load([url], "m", Shape(), seed=1, slots=1, patience_s=0.05)
        await has_asked.wait()
        histories = await load.finish()
    assert histories[-1].is_hung


async def test_a_deadline_is_never_put_off() -> None:
    async with served(always(503, "store_unavailable")) as url:
        client = Client(ASK, [url], "m", random.Random(1))
        asking = asyncio.create_task(client.run(0.05))
        await asyncio.sleep(0)
        client.give_up_in(60)
        assert (await asking).is_hung

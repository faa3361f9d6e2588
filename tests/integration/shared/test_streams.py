"""A job's stream is read page by page, and back to a position."""

from __future__ import annotations

from collections.abc import Awaitable
from importlib import resources
from typing import cast

from redis.asyncio import Redis

from shared.store import keys, scripts
from shared.store.append import Append
from shared.store.job_reader import Page
from shared.store.job_store import JobStore
from tests.integration.shared.test_job_store import (
    running,
    words,
)


async def test_no_write_makes_a_stream(redis_client: Redis) -> None:
    prelude = (resources.files(scripts) / "prelude.lua").read_text()
    await cast(
        Awaitable[None],
        redis_client.eval(f"{keys.lua_names()}{prelude} write('x', 2, 0, '0', '', '{{}}', '')", 0),
    )
    assert not await redis_client.exists(keys.events("x"))


async def test_what_a_reader_misses_reaches_back_to_its_position(store: JobStore) -> None:
    job = await running(store)
    for start in range(0, 200, 2):
        await store.append(
            [Append(job.id, "h1", (start,), (start + 2,), output=words("a", "b", start=start))]
        )
    tail = await store.page_back_to(job.id, (101,), limit=1000)
    assert (tail.entries[0].end, tail.entries[-1].end, tail.is_end) == ((100,), (200,), True)
    assert tail.last == tail.entries[-1]
    first = await store.page_back_to(job.id, (101,), limit=2)
    assert ([entry.end for entry in first.entries], first.is_end) == ([(100,), (102,)], False)
    assert first.last == tail.last
    # Nothing lies there: all of it, from the start.
    whole = await store.page_back_to(job.id, (-1,), limit=3)
    assert [entry.id for entry in whole.entries] == ["1-0", "2-0", "2-1"]


async def test_a_stream_is_read_page_by_page(store: JobStore) -> None:
    job = await running(store)
    for start in range(5):
        await store.append([Append(job.id, "h1", (start,), (start + 1,), output=words("a", start=start))])
    entries = await store.entries(job.id)
    first = await store.page(job.id, after=None, limit=3)
    assert first == Page(entries[:3], entries[-1], is_end=False)
    second = await store.page(job.id, after="2-1", limit=4)
    assert second == Page(entries[3:], entries[-1], is_end=True)
    assert await store.page(job.id, after="2-1", limit=5) == second
    assert await store.page(job.id, after="2-5", limit=5) == Page([], entries[-1], is_end=True)
    assert await store.page("job_none", after=None, limit=5) == Page([], None, is_end=True)

"""One Redis and one fork_server for all tests of faults; each test has processes of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.acceptance.faults.harness.cluster import Cluster


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def running_cluster() -> AsyncIterator[Cluster]:
    async with Cluster(READER_GRACE_S="1", PING_S="0.5") as cluster:
        yield cluster


@pytest_asyncio.fixture(loop_scope="session")
async def cluster(running_cluster: Cluster) -> AsyncIterator[Cluster]:
    """A Redis without data, and no process yet."""
    yield running_cluster
    await running_cluster.clear()

"""Fixtures of the tests of the store."""

from __future__ import annotations

import pytest

from shared.store.job_store import JobStore


@pytest.fixture
async def replicas(store: JobStore) -> None:
    """Two API replicas with leases: r1 and r2."""
    for replica in ("r1", "r2"):
        await store.register_replica(replica)

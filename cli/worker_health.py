"""The health check of the worker image: exits with 0 if this host's worker holds a lease, otherwise with 1.

`python -m cli.worker_health` needs only the packages that a worker needs.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

from shared import settings
from shared.errors import BatonError
from shared.store.job_store import JobStore
from shared.store.redis_client import connect


async def is_healthy(redis_url: str, host: str) -> bool:
    """Raises StoreUnavailable."""
    redis = connect(redis_url, timeout_s=2)
    try:
        return any(worker.host == host for worker in await JobStore(redis).workers())
    finally:
        await redis.aclose()


def main() -> None:
    try:
        redis_url = settings.Environment(os.environ).read(settings.REDIS_URL)
        healthy = asyncio.run(is_healthy(redis_url, socket.gethostname()))
    except BatonError as error:
        sys.exit(str(error))
    sys.exit(0 if healthy else "no worker on this host holds a lease")


if __name__ == "__main__":
    main()

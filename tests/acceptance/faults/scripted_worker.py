"""`python -m tests.acceptance.faults.scripted_worker`: the scripted worker, with requests that do harm.

A prompt that begins with `poison` kills the process that generates it, one that begins with `fault` makes
the engine raise.
"""

from __future__ import annotations

import sys

# What a worker imports only when it starts: so it is there when the nursery forks.
import redis.asyncio.connection  # noqa: F401

from tests import scripted_worker

main = scripted_worker.main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.acceptance.faults.harness.scripted_worker`: the scripted worker, with requests that do harm.

A request whose seed is POISON kills the process that generates it.
"""

from __future__ import annotations

import os
import signal
import sys

# What a worker imports only when it starts: so it is there when the fork_server forks.
import redis.asyncio.connection  # noqa: F401

from shared.domain.output import ChoiceOutput
from tests import scripted_worker
from tests.scripted_backend import ScriptedEngine
from workers.engine.resolved_request import ResolvedRequest

#: Whoever generates an answer with this seed dies.
POISON = 666


class HarmfulEngine(ScriptedEngine):
    """Dies of a poisoned request."""

    def add(
        self,
        request_id: str,
        request: ResolvedRequest,
        so_far: tuple[ChoiceOutput, ...] = (),
        *,
        owner: str | None = None,
    ) -> None:
        if request.sampling.seed == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        super().add(request_id, request, so_far, owner=owner)


def main() -> int:
    return scripted_worker.main(HarmfulEngine)


if __name__ == "__main__":
    sys.exit(main())

"""Real worker processes on the scripted backend."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from shared.domain.lease import WorkerState
from shared.store.job_store import JobStore
from tests.integration.workers.harness import MODEL, eventually

#: Short enough for tests, long enough for a busy machine to beat in time.
LEASE_S = 1.5


class WorkerProcess:
    """One process; its log is shown when a test fails."""

    def __init__(self, url: str, broker_url: str, name: str, *, slots: int, step_s: float) -> None:
        self.name = name
        self._log = Path(tempfile.mkstemp(prefix=f"baton-{name}-", suffix=".log")[1])
        settings = {
            "BATON_REDIS_URL": url,
            "BATON_BROKER_URL": broker_url,
            "BATON_MODEL": MODEL,
            "BATON_WORKER_NAME": name,
            "BATON_MAX_SLOTS": str(slots),
            "BATON_LEASE_S": str(LEASE_S),
        }
        environ = {key: value for key, value in os.environ.items() if not key.startswith("BATON_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.scripted_worker", "--step-s", str(step_s)],
                env={**environ, **settings},
                stdout=log,
                stderr=log,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text()

    async def ready(self, store: JobStore) -> WorkerState:
        """Its lease, once Celery consumes as well."""

        async def is_ready() -> bool:
            assert self._process.poll() is None, self.log
            return ' ready."' in self.log and await self._state(store) is not None

        await eventually(is_ready, 20)
        state = await self._state(store)
        assert state is not None
        return state

    async def _state(self, store: JobStore) -> WorkerState | None:
        return next((worker for worker in await store.workers() if worker.pid == self.pid), None)

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def exit_status(self, within_s: float) -> int:
        """Its status, once it is gone."""
        async with asyncio.timeout(within_s):
            return await asyncio.to_thread(self._process.wait)

    def remove(self) -> None:
        self._process.kill()
        self._process.wait()
        sys.stdout.write(self.log)
        self._log.unlink()


class Workers:
    """Starts processes, and ends those that the test left."""

    def __init__(self, url: str, broker_url: str | None = None) -> None:
        self._url, self._broker_url = url, broker_url or url
        self._started: list[WorkerProcess] = []

    def start(self, name: str, *, slots: int = 4, step_s: float = 0.005) -> WorkerProcess:
        worker = WorkerProcess(self._url, self._broker_url, name, slots=slots, step_s=step_s)
        self._started.append(worker)
        return worker

    def remove(self) -> None:
        for worker in self._started:
            worker.remove()

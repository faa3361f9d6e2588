"""Measures the relay alone: 1,000 clients read SSE from one API process, which a scripted writer feeds through Redis.

The rival is a minimal ASGI server (bench.harness.bare_sse) with the same Redis, writer, clients and HTTP server. Both
take turns. A steady rate measures the delay from append to client; a burst measures tokens per second. CPU time is
that of the server process only, which is more meaningful than wall-clock time if clients and writer share its cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields

import httpx

from api.dialects.openai_chat.ids import completion_id
from api.http.auth import PUBLIC
from bench.harness.server_process import ServerProcess, api_process, free_port
from bench.harness.spread import spread
from shared.domain.events import Output
from shared.domain.job import Job, NewJob, new_job_id
from shared.domain.lease import Lease
from shared.domain.output import ChoiceOutput
from shared.domain.request import GenerationRequest, TextPrompt
from shared.store import keys
from shared.store.append import Append
from shared.store.job_store import JobStore
from shared.store.redis_client import connect
from tests.redis_server import RedisServer

MODEL = "bench"
REQUEST = GenerationRequest((TextPrompt(""),))
#: Seconds for which a second replica is measured while nothing is relayed.
IDLE_S = 3.0
#: How many jobs one call of the writer appends to, like a worker's slots.
SLOTS = 32


@dataclass(frozen=True)
class Figures:
    """One round of one server."""

    tokens_per_s: float
    p50_ms: float
    p99_ms: float
    #: CPU time of the server process, at the steady rate and in the burst.
    steady_us_per_token: float
    burst_us_per_token: float


class Bystander:
    """A second replica, which follows nothing: its CPU time while nothing is relayed, and in the first one's bursts."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self.idle: list[float] = []
        self.busy: list[float] = []

    @contextmanager
    def measured(self, into: list[float]) -> Iterator[None]:
        """Adds milliseconds of CPU time per second."""
        cpu_s, started = self._server.cpu_s, time.monotonic()
        yield
        into.append(1000 * (self._server.cpu_s - cpu_s) / (time.monotonic() - started))


class Writer:
    """Acts as the workers: appends one token to every job, SLOTS jobs per call."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._lease = Lease(f"writer.{secrets.token_hex(4)}", "writer", MODEL, "host", 1, "cpu", 9999, "rev")
        self._jobs: list[Job] = []
        self._position = 0

    async def take_jobs(self, count: int) -> list[str]:
        """Creates and claims this many jobs."""
        await self._store.register(self._lease)
        for _ in range(count):
            await self._store.create(NewJob(new_job_id(), MODEL, PUBLIC, REQUEST, cancel_after_s=600))
            job = await self._store.claim(self._lease, secrets.token_hex(8))
            assert isinstance(job, Job)
            self._jobs.append(job)
        return [job.id for job in self._jobs]

    async def write(self, num_tokens: int, rate: float | None) -> None:
        """Appends this many tokens to each job. `rate` counts all jobs together; None: as fast as possible."""
        groups = [self._jobs[first : first + SLOTS] for first in range(0, len(self._jobs), SLOTS)]
        started, written = time.monotonic(), 0
        for position in range(self._position, self._position + num_tokens):
            for group in groups:
                if rate is not None:
                    await asyncio.sleep(max(0, started + written / rate - time.monotonic()))
                    await self._append(group, position)
                written += len(group)
            if rate is None:
                await asyncio.gather(*(self._append(group, position) for group in groups))
        self._position += num_tokens

    async def _append(self, group: list[Job], position: int) -> None:
        answers = await self._store.append([_token(job, position) for job in group])
        assert all(answer.kind == "end" for answer in answers)


def _token(job: Job, position: int) -> Append:
    assert job.claim_token is not None
    stamp = f"@{time.monotonic_ns()}@"
    output = Output((ChoiceOutput(0, position, (position,), (stamp,)),))
    return Append(job.id, job.claim_token, (position,), (position + 1,), output=output)


def measure(
    redis_url: str,
    server: ServerProcess,
    path_of: Callable[[str], str],
    options: argparse.Namespace,
    bystander: Bystander | None = None,
) -> Figures:
    """Runs one round."""
    phases = [1, options.steady, options.burst]
    clients = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "bench.harness.relay_clients",
            "--port",
            str(server.port),
            "--phases",
            *map(str, phases),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    assert clients.stdin is not None and clients.stdout is not None

    def read_delays() -> dict[str, float]:
        assert clients.stdout is not None
        answer: dict[str, float] = json.loads(clients.stdout.readline())
        return answer

    async def play() -> Figures:
        redis = connect(redis_url, timeout_s=30)
        # A dummy wake-up, so that the reaper does not send any.
        await redis.rpush(keys.broker_list(MODEL), "a wake_up")
        writer = Writer(JobStore(redis))
        job_ids = await writer.take_jobs(options.clients)
        assert clients.stdin is not None
        clients.stdin.write(json.dumps([path_of(job_id) for job_id in job_ids]) + "\n")
        clients.stdin.flush()
        await wait_for_subscriptions(server, options.clients)
        await writer.write(1, None)
        await asyncio.to_thread(read_delays)
        if bystander is not None:
            with bystander.measured(bystander.idle):
                await asyncio.sleep(IDLE_S)
        cpu = [server.cpu_s]
        await writer.write(options.steady, options.rate)
        steady = await asyncio.to_thread(read_delays)
        cpu.append(server.cpu_s)
        started = time.monotonic()
        with bystander.measured(bystander.busy) if bystander is not None else nullcontext():
            await writer.write(options.burst, None)
            burst = await asyncio.to_thread(read_delays)
        cpu.append(server.cpu_s)
        await redis.flushall()
        await redis.aclose()
        return Figures(
            tokens_per_s=options.clients * options.burst / (burst["at"] - started),
            p50_ms=steady["p50_ms"],
            p99_ms=steady["p99_ms"],
            steady_us_per_token=1e6 * (cpu[1] - cpu[0]) / (options.clients * options.steady),
            burst_us_per_token=1e6 * (cpu[2] - cpu[1]) / (options.clients * options.burst),
        )

    try:
        return asyncio.run(asyncio.wait_for(play(), 120))
    finally:
        clients.kill()
        clients.wait()


async def wait_for_subscriptions(server: ServerProcess, num_clients: int) -> None:
    """Returns once the server has this many subscriptions."""
    async with asyncio.timeout(60), httpx.AsyncClient(timeout=30, trust_env=False) as http:
        while True:
            text = (await http.get(f"{server.url}/metrics")).text
            if f"\nbaton_subscriptions {num_clients}.0\n" in f"\n{text}":
                return
            await asyncio.sleep(0.2)


@contextmanager
def bare_process(redis_url: str) -> Iterator[ServerProcess]:
    """Runs the rival."""
    port = free_port()
    server = ServerProcess(["bench.harness.bare_sse", "--redis", redis_url, "--port", str(port)], {}, port)
    try:
        yield server
    finally:
        server.close()


def report(own: list[Figures], rival: list[Figures], options: argparse.Namespace) -> None:
    print(
        f"relay alone: {options.clients} SSE clients on one process, {options.rate:.0f} tokens/s, then a "
        f"burst of {options.clients * options.burst} tokens; {len(own)} rounds: min / median / max"
    )
    print(f"{'':<22}{'Baton':>26}{'bare ASGI':>26}{'Baton / bare':>22}")
    for field in fields(Figures):
        ours = [getattr(figures, field.name) for figures in own]
        theirs = [getattr(figures, field.name) for figures in rival]
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        print(f"{field.name:<22}{spread(ours, 1):>26}{spread(theirs, 1):>26}{spread(ratios):>22}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=2000, help="steady tokens per second of all clients")
    parser.add_argument("--steady", type=int, default=10, help="tokens per client at the steady rate")
    parser.add_argument("--burst", type=int, default=20, help="tokens per client in the burst")
    options = parser.parse_args()
    settings = {"MAX_READERS": str(options.clients), "FIRST_OUTPUT_WAIT_S": "60", "LEASE_S": "600"}
    redis = RedisServer()
    redis.start()
    own: list[Figures] = []
    rival: list[Figures] = []
    idle: list[float] = []
    busy: list[float] = []
    try:
        for _ in range(options.rounds):
            with (
                api_process(redis.url, MODEL, **settings) as server,
                api_process(redis.url, MODEL, **settings) as other,
            ):
                bystander = Bystander(other)
                own.append(measure(redis.url, server, _chat_path, options, bystander))
                idle, busy = [*idle, *bystander.idle], [*busy, *bystander.busy]
            with bare_process(redis.url) as server:
                rival.append(measure(redis.url, server, lambda job_id: f"/{job_id}", options))
    finally:
        redis.remove()
    report(own, rival, options)
    print(
        f"a replica that follows nothing, CPU ms per second: {spread(idle, 1)} idle, {spread(busy, 1)} in the bursts"
    )


def _chat_path(job_id: str) -> str:
    return f"/v1/chat/completions/{completion_id(job_id)}/events"


if __name__ == "__main__":
    main()

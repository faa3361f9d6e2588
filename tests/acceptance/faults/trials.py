"""`python -m tests.acceptance.faults.trials`: one stream, one fault, many times, at Baton's defaults.

Each answer must be the undisturbed one; what is told is the silence that the fault made. A supervised worker
is one of a real `baton up`; of a lost host nobody is told. Behind `make trials`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from shared.domain.lease import WorkerState
from shared.store import keys
from tests.acceptance.faults.harness.clients import Client
from tests.acceptance.faults.harness.cluster import Cluster, eventually
from tests.acceptance.faults.harness.faults import Done
from tests.acceptance.faults.harness.http import Unreachable, fetch
from tests.acceptance.faults.harness.plan import FaultKind
from tests.acceptance.faults.harness.recording import tiny
from tests.acceptance.faults.harness.supervised import Supervised
from tests.acceptance.faults.verdict.checker import check
from tests.acceptance.faults.verdict.figures import Figure, spread
from tests.acceptance.faults.verdict.history import Ask, History
from tests.acceptance.faults.verdict.leftovers import finals_of
from tests.acceptance.faults.verdict.report import gaps

#: Of an answer; the fault comes when the reader has heard so many.
_TOKENS = 800
_HEARD = 40
_WORKERS = 4
#: For whatever has to be there again, on a machine that has much else to do.
_PATIENCE_S = 120.0
_SUPERVISED: tuple[tuple[FaultKind, signal.Signals], ...] = (
    ("worker kill", signal.SIGKILL),
    ("worker term", signal.SIGTERM),
    ("api kill", signal.SIGKILL),
)
#: As in shared/settings.py; the cluster's own are shorter.
_DEFAULTS = {"LEASE_S": "3", "READER_GRACE_S": "15", "PING_S": "15", "MAX_SLOTS": "32"}


@dataclass
class Arena:
    """Where trials are held, and what came of them."""

    cluster: Cluster
    urls: Sequence[str]
    seeds: Sequence[int]
    histories: list[History] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)
    #: How long workers that were told to go took to end.
    exits_s: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)

    async def hold(self, kind: FaultKind, number: signal.Signals) -> None:
        """One trial, as soon as a second worker is there to go on."""
        await eventually(self._is_ready, _PATIENCE_S, "two workers and all replicas are ready")
        seed = self.seeds[len(self.histories) % len(self.seeds)]
        client = Client(
            Ask("events", seed, _TOKENS, _TOKENS), self.urls, self.cluster.model, random.Random(seed)
        )
        history = client.history
        asking = asyncio.create_task(client.run(_PATIENCE_S))
        try:
            await eventually(lambda: _has_heard(history), _PATIENCE_S, "the answer has begun")
            process = await self._victim(kind, history)
            self.done.append(Done(kind, time.monotonic(), (history,)))
            process.send_signal(number)
            if number == signal.SIGTERM:
                at = time.monotonic()
                await asyncio.to_thread(process.wait, _PATIENCE_S)
                self.exits_s.append(time.monotonic() - at)
        finally:
            self.histories.append(await asking)
        if number == signal.SIGSTOP:
            process.kill()
        self.loads.append(os.getloadavg()[0])

    async def _victim(self, kind: FaultKind, history: History) -> psutil.Process:
        if kind == "api kill":
            return next(p for p in map(psutil.Process, psutil.pids()) if _listens(p, history.reads_from))
        for worker in await self.cluster.store.workers():
            if history.job_id in await self.cluster.client.hkeys(keys.worker_jobs(worker.worker_instance)):
                return psutil.Process(worker.pid)
        raise LookupError("no worker has the job: the fault comes too late")

    async def _is_ready(self) -> bool:
        try:
            answers = [await fetch("GET", url, "/health/live", within_s=5) for url in self.urls]
        except Unreachable:
            return False
        workers = [one for one in await self.cluster.store.workers() if _is_there(one)]
        return len(workers) >= 2 and all(answer.status == 200 for answer in answers)


async def _has_heard(history: History) -> bool:
    return history.num_tokens >= _HEARD


def _is_there(worker: WorkerState) -> bool:
    return psutil.pid_exists(worker.pid) and not worker.is_draining and not worker.jobs


def _listens(process: psutil.Process, url: str) -> bool:
    try:
        return (
            "api.main" in process.cmdline() and process.environ().get("BATON_PORT") == url.rpartition(":")[2]
        )
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False


async def _run(rounds: int, directory: Path) -> tuple[str, list[Figure], bool]:
    engine = await tiny(directory, tokens=_TOKENS)
    assert engine.shape.seeds is not None
    async with engine.cluster(appendfsync="always", **_DEFAULTS) as cluster:
        supervised = await Supervised.begin(
            cluster, {**_DEFAULTS, "API_REPLICAS": "2", "DEVICES": ",".join(["cpu"] * _WORKERS)}
        )
        arena = Arena(cluster, supervised.urls, engine.shape.seeds)
        for number in range(rounds):
            for kind, sent in _SUPERVISED:
                await arena.hold(kind, sent)
            _tell(number, arena)
        await supervised.end()
        await cluster.begin("api", "api-0", "api-1")
        await cluster.begin("worker", *(f"worker-{number}" for number in range(_WORKERS)))
        for part in cluster.parts:
            part.keep()
        arena.urls = cluster.urls
        for number in range(rounds):
            await arena.hold("worker host lost", signal.SIGKILL)
            await arena.hold("worker stop", signal.SIGSTOP)
            _tell(number, arena)
        known = [history.job_id for history in arena.histories if history.job_id is not None]
        violations = check(arena.histories, await finals_of(cluster, known), engine.reference)
    figures = _figures(gaps(arena.done), arena.exits_s, len(violations), len(arena.histories))
    lines = [
        f"# make trials ROUNDS={rounds}",
        "",
        "- the defaults: lease 3 s (judged twice a second), beats twice a second, appendfsync always; "
        "the tiny model in float32, one stream at a time",
        f"- {os.cpu_count()} CPUs; processes of the whole machine that ran or waited for one meanwhile: "
        f"{min(arena.loads):.1f} to {max(arena.loads):.1f} (median {statistics.median(arena.loads):.1f})",
        "",
        "| goal | wanted | measured |",
        "|---|---|---|",
        *(f"| {one.name} | {one.goal} | {one.figure} |" for one in figures),
        "",
        *(f"- {v.fault}: {v.kind} {v.job_id} {v.detail}" for v in violations),
        "all promises held" if not violations else "PROMISES WERE BROKEN",
        "",
    ]
    return "\n".join(lines), figures, not violations


def _figures(
    found: Mapping[str, Sequence[float]], exits_s: Sequence[float], broken: int, asked: int
) -> list[Figure]:
    return [
        Figure(f"R1 promises broken in {asked} trials", "0", str(broken)),
        Figure(
            "R2 next new token, a worker of `baton up` killed", "2 s", spread(found.get("worker kill", ()))
        ),
        Figure(
            "R2 a worker killed, of whose death nobody is told (lease 3 s)",
            "p50 4 s, p99 10 s",
            spread(found.get("worker host lost", ())),
        ),
        Figure(
            "R2 a worker stopped for good (SIGSTOP, lease 3 s)",
            "p50 4 s, p99 10 s",
            spread(found.get("worker stop", ())),
        ),
        Figure("R3 an API replica killed", "1 s", spread(found.get("api kill", ()))),
        Figure("R12 a worker told to go (SIGTERM)", "2 s", spread(found.get("worker term", ()))),
        Figure("R12 until it has ended", "10 s", spread(exits_s)),
    ]


def _tell(number: int, arena: Arena) -> None:
    said = "; ".join(f"{kind} {values[-1]:.2f} s" for kind, values in gaps(arena.done).items())
    sys.stdout.write(f"{number} {said}\n")
    sys.stdout.flush()


def main() -> int:
    """The exit status: 1 when an answer was another one."""
    parser = argparse.ArgumentParser(prog="make trials")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--report", type=Path, help="also write the report to this file")
    parser.add_argument("--figures", type=Path, help="also write goals and figures to this file, as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="baton-trials-") as directory:
        page, figures, is_clean = asyncio.run(_run(arguments.rounds, Path(directory)))
    sys.stdout.write(page)
    if arguments.report is not None:
        arguments.report.write_text(page)
    if arguments.figures is not None:
        title = page.splitlines()[0].removeprefix("# ")
        arguments.figures.write_text(json.dumps({"title": title, "figures": figures}, indent=1) + "\n")
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())

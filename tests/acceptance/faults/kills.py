"""`python -m tests.acceptance.faults.kills`: a whole `baton up` of the tiny model, its Redis included, whose parts are
killed: first one after the other under load, then one at a time with one stream. Behind `make kills`.

All answers must be the undisturbed ones. What is told is for how long readers heard no new token.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from cli.supervisor.state_file import ChildState, StateFile
from shared.store import keys
from shared.store.job_store import JobStore
from shared.store.redis_client import connect
from tests.acceptance.faults.harness.clients import Client
from tests.acceptance.faults.harness.cluster import eventually
from tests.acceptance.faults.harness.faults import Done
from tests.acceptance.faults.harness.load import Load
from tests.acceptance.faults.harness.plan import FaultKind
from tests.acceptance.faults.harness.recording import Engine, tiny
from tests.acceptance.faults.verdict.checker import Violation, check
from tests.acceptance.faults.verdict.history import Ask, History
from tests.acceptance.faults.verdict.leftovers import finals_in
from tests.acceptance.faults.verdict.report import gaps
from tests.acceptance.system import System

_PARTS = ("worker-1", "worker-2", "api-1", "api-2", "redis")
_KINDS: Mapping[str, FaultKind] = {"worker": "worker kill", "api": "api kill", "redis": "redis kill"}
_PATIENCE_S = 120.0
#: Of an answer in the second part; the kill comes when the reader has heard so many.
_TOKENS, _HEARD = 800, 40


@dataclass
class Killing:
    """A running system, and what was done to it."""

    system: System
    model: str = "tiny"
    histories: list[History] = field(default_factory=list)
    done: list[Done] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)
    #: How long each part was away: from its death until it was ready again.
    away_s: dict[str, list[float]] = field(default_factory=dict)

    def parts(self) -> dict[str, ChildState]:
        return {part.id: part for part in StateFile(self.system.home).read() if part.id in _PARTS}

    async def kill(self, part_id: str, touched: Iterable[History]) -> bool:
        """kill -9. False: the part is dead already."""
        part = self.parts()[part_id]
        if part.pid is None:
            return False
        self.done.append(Done(_KINDS[part.role], time.monotonic(), tuple(touched)))
        try:
            psutil.Process(part.pid).kill()
        except psutil.NoSuchProcess:
            self.done.pop()
            return False
        self.loads.append(os.getloadavg()[0])
        return True

    async def all_ready(self) -> None:
        async def are() -> bool:
            return all(part.state == "ready" for part in self.parts().values())

        await eventually(are, _PATIENCE_S, "all parts are ready")

    async def watch(self) -> None:
        """Note how long parts are away, until cancelled."""
        dead: dict[str, float] = {}
        pids = {part_id: part.pid for part_id, part in self.parts().items()}
        while True:
            now = time.monotonic()
            for part_id, part in self.parts().items():
                if part.pid != pids[part_id] and part_id not in dead:
                    dead[part_id] = now
                if part_id in dead and part.state == "ready":
                    self.away_s.setdefault(part.role, []).append(now - dead.pop(part_id))
                    pids[part_id] = part.pid
            await asyncio.sleep(0.02)


async def under_load(killing: Killing, engine: Engine, arguments: argparse.Namespace) -> None:
    """Kill part after part while clients read."""
    rng = random.Random(arguments.seed)
    load = Load(
        killing.system.urls,
        killing.model,
        engine.shape,
        seed=arguments.seed,
        slots=arguments.clients,
        patience_s=_PATIENCE_S,
    )
    for number in range(arguments.kills):
        await asyncio.sleep(rng.uniform(1, 6))
        for part_id in rng.sample(_PARTS, len(_PARTS)):
            if await killing.kill(part_id, [one for one in load.histories if not one.is_told_end]):
                break
        sys.stdout.write(f"{number} {part_id}\n")
        sys.stdout.flush()
    killing.histories += await load.finish()


async def one_at_a_time(killing: Killing, engine: Engine, rounds: int) -> None:
    """Kill one part while one stream is read, once all parts are there."""
    assert engine.shape.seeds is not None
    for number in range(rounds):
        for role in _KINDS:
            await killing.all_ready()
            seed = engine.shape.seeds[number % len(engine.shape.seeds)]
            client = Client(
                Ask("events", seed, _TOKENS, _TOKENS), killing.system.urls, killing.model, random.Random(seed)
            )
            asking = asyncio.create_task(client.run(_PATIENCE_S))
            try:
                await eventually(partial(_has_heard, client.history), _PATIENCE_S, "the answer has begun")
                await killing.kill(await _victim(killing, role, client.history), [client.history])
            finally:
                killing.histories.append(await asking)
        sys.stdout.write(
            f"{number} {' '.join(f'{k} {v[-1]:.2f} s' for k, v in gaps(killing.done).items())}\n"
        )
        sys.stdout.flush()


async def _has_heard(history: History) -> bool:
    return history.num_tokens >= _HEARD


async def _victim(killing: Killing, role: str, history: History) -> str:
    """The part of this role that the reader depends on."""
    if role == "redis":
        return role
    if role == "api":
        return f"api-{killing.system.urls.index(history.reads_from) + 1}"
    redis = connect(f"unix://{killing.system.home}/redis/redis.sock", timeout_s=5)
    try:
        for worker in await JobStore(redis).workers():
            if history.job_id in await redis.hkeys(keys.worker_jobs(worker.worker_instance)):
                return worker.name
    finally:
        await redis.aclose()
    raise LookupError("no worker has the job: the kill comes too late")


async def _verdict(killing: Killing, engine: Engine) -> list[Violation]:
    redis = connect(f"unix://{killing.system.home}/redis/redis.sock", timeout_s=20)

    async def is_all_over() -> bool:
        return await redis.zcard(keys.ACTIVE) == 0

    await eventually(is_all_over, _PATIENCE_S, "every job is over")
    known = [history.job_id for history in killing.histories if history.job_id is not None]
    finals = await finals_in(JobStore(redis), known)
    await redis.aclose()
    return check(killing.histories, finals, engine.reference)


async def _run(arguments: argparse.Namespace, directory: Path) -> tuple[str, bool]:
    engine = await tiny(directory, tokens=_TOKENS)
    model = directory / "tiny"
    settings = {"DEVICES": "cpu,cpu", "API_REPLICAS": "2", "APPENDFSYNC": "always", "READER_GRACE_S": "15"}
    system = System(model, **settings)
    await asyncio.to_thread(system.start)
    loaded, single = Killing(system), Killing(system)
    try:
        watching = asyncio.create_task(loaded.watch())
        await under_load(loaded, engine, arguments)
        await loaded.all_ready()
        watching.cancel()
        violations = await _verdict(loaded, engine)
        await one_at_a_time(single, engine, arguments.rounds)
        violations += await _verdict(single, engine)
        assert system.is_ready()
    finally:
        await asyncio.to_thread(system.remove)
    return _page(arguments, loaded, single, violations), not violations


def _page(
    arguments: argparse.Namespace, loaded: Killing, single: Killing, violations: Sequence[Violation]
) -> str:
    loads = [*loaded.loads, *single.loads]
    worst = [max(found) for fault in loaded.done if (found := gaps([fault]).get(fault.kind))]
    every = list(itertools.chain(*gaps(loaded.done).values()))
    lines = [
        f"# make kills KILLS={arguments.kills} ROUNDS={arguments.rounds} SEED={arguments.seed}",
        "",
        "One `baton up` with the tiny model in float32: two replicas, two workers, its own Redis (appendfsync always),"
        " lease 3 s.",
        f"{len(loaded.histories)} requests of {arguments.clients} clients under load, {len(single.histories)} alone;"
        f" promises broken: {len(violations)}.",
        f"{os.cpu_count()} CPUs; processes of the whole machine that ran or waited for one: {min(loads):.1f} to"
        f" {max(loads):.1f} (median {statistics.median(loads):.1f}).",
        "",
        "Silence: from a reader's last token before a kill, or soon after it, to its next new token.",
        "",
        "| one kill each 1 to 6 s, under load | goal | n | min | median | p99 | max |",
        "|---|---|---|---|---|---|---|",
        _row("every reader of every kill", "p50 2 s, p99 8 s", every),
        *(_row(kind, "", found) for kind, found in sorted(gaps(loaded.done).items())),
        _row("the longest of each kill", "", worst),
        *(
            _row(f"{role}: until it is ready again", "", found)
            for role, found in sorted(loaded.away_s.items())
        ),
        "",
        "| one at a time, one stream | goal | n | min | median | p99 | max |",
        "|---|---|---|---|---|---|---|",
        *(_row(kind, _GOALS[kind], found) for kind, found in gaps(single.done).items()),
        "",
        *(f"- {v.fault}: {v.kind} {v.job_id} {v.detail}" for v in violations),
        "all promises held" if not violations else "PROMISES WERE BROKEN",
        "",
    ]
    return "\n".join(lines)


_GOALS: Mapping[str, str] = {"worker kill": "p99 1 s", "api kill": "p99 0.5 s", "redis kill": "p99 3 s"}


def _row(name: str, goal: str, values: Sequence[float]) -> str:
    if not values:
        return f"| {name} | {goal} | 0 | | | | |"
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    shown = (ordered[0], statistics.median(ordered), p99, ordered[-1])
    return f"| {name} | {goal} | {len(ordered)} | {' | '.join(f'{value:.2f} s' for value in shown)} |"


def main() -> int:
    """The exit status: 1 when an answer was another one."""
    parser = argparse.ArgumentParser(prog="make kills")
    parser.add_argument("--kills", type=int, default=72)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--report", type=Path, help="also write the report to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="baton-kills-") as directory:
        page, is_clean = asyncio.run(_run(arguments, Path(directory)))
    sys.stdout.write(page)
    if arguments.report is not None:
        arguments.report.write_text(page)
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())

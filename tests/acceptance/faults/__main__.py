"""`python -m tests.acceptance.faults`: load and random faults for a while, then the report.

The exit status is 1 when a promise was broken. Behind `make chaos`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.acceptance.faults.census import after_retention, all_over, finals_of, leftovers, usage_of
from tests.acceptance.faults.checker import check
from tests.acceptance.faults.cluster import Cluster
from tests.acceptance.faults.faults import Faults
from tests.acceptance.faults.load import Load
from tests.acceptance.faults.plan import Planned, draw_plan
from tests.acceptance.faults.recording import Engine, scripted, tiny
from tests.acceptance.faults.report import Run, show

#: A client that has no answer after this long hangs.
_PATIENCE_S = 120.0
#: What is drawn at once, as faults have to end sometime.
_PLAN = 200


def main() -> int:
    """Answers the exit status."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="baton-chaos-") as directory:
        run = asyncio.run(_run(arguments, Path(directory)))
    page = show(run)
    sys.stdout.write(page)
    if arguments.report is not None:
        arguments.report.write_text(page)
    return 0 if run.is_clean else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument(
        "--seconds", type=float, default=60, help="how long faults go on (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of faults and load (default: %(default)s)")
    parser.add_argument("--engine", choices=["scripted", "tiny"], default="scripted")
    parser.add_argument("--kills", type=int, help="go on until so many processes were killed, however long")
    parser.add_argument("--gap", type=float, default=1.0, help="mean seconds between faults")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--appendfsync", choices=["always", "everysec"], default="everysec")
    parser.add_argument("--report", type=Path, help="also write the report to this file")
    return parser.parse_args()


async def _run(arguments: argparse.Namespace, directory: Path) -> Run:
    engine = await {"scripted": scripted, "tiny": tiny}[arguments.engine](directory)
    async with engine.cluster(appendfsync=arguments.appendfsync, READER_GRACE_S="15", PING_S="1") as cluster:
        await cluster.begin("api", *(f"api-{number}" for number in range(arguments.replicas)))
        await cluster.begin("worker", *(f"worker-{number}" for number in range(arguments.workers)))
        for part in cluster.parts:
            part.keep()
        return await _disturb(arguments, engine, cluster)


async def _disturb(arguments: argparse.Namespace, engine: Engine, cluster: Cluster) -> Run:
    started = time.monotonic()
    load = Load(
        cluster.urls,
        cluster.model,
        engine.shape,
        seed=arguments.seed,
        slots=arguments.clients,
        patience_s=_PATIENCE_S,
    )
    faults = Faults(cluster, load.histories)
    await _do_all(arguments, faults, cluster)
    histories = await load.finish()
    left = [f"{job_id} is not over" for job_id in await all_over(cluster, 60)]
    known = {job_id for history in histories for job_id in history.job_ids}
    finals = await finals_of(cluster, sorted(known))
    left += await leftovers(cluster, known)
    left += [f"{key} after retention" for key in await after_retention(cluster)]
    length = f"SECONDS={arguments.seconds:g}" if arguments.kills is None else f"KILLS={arguments.kills}"
    title = (
        f"make chaos ENGINE={arguments.engine} {length} SEED={arguments.seed}, "
        f"appendfsync {arguments.appendfsync}, {arguments.clients} clients"
    )
    return Run(
        title=title,
        seconds=time.monotonic() - started,
        histories=histories,
        finals=list(finals.values()),
        done=faults.done,
        deaths={**cluster.num_deaths, "redis": sum(one.kind in _REDIS_DEATHS for one in faults.done)},
        violations=check(histories, finals, engine.reference),
        leftovers=left,
        num_swallowed=sum(part.proxy.num_swallowed for part in cluster.parts),
        usage=usage_of(cluster),
    )


_REDIS_DEATHS = ("redis kill", "redis tail cut", "redis set back")


def _planned(arguments: argparse.Namespace) -> Iterator[Planned]:
    for part in itertools.count():
        yield from draw_plan(arguments.seed + part * 1_000_003, mean_gap_s=arguments.gap, faults=_PLAN)


async def _do_all(arguments: argparse.Namespace, faults: Faults, cluster: Cluster) -> None:
    """Faults one after the other, each healing by itself while others begin."""
    deadline = time.monotonic() + arguments.seconds
    running: set[asyncio.Task[None]] = set()
    for number, fault in enumerate(_planned(arguments)):
        await asyncio.sleep(fault.after_s)
        if arguments.kills is None and time.monotonic() > deadline:
            break
        if arguments.kills is not None and _num_kills(faults, cluster) >= arguments.kills:
            break
        sys.stdout.write(f"{number} {fault}\n")
        sys.stdout.flush()
        if number % 3 == 0:
            faults.keep_copy()
        task = asyncio.create_task(faults.do(fault))
        running.add(task)
        task.add_done_callback(running.discard)
        for done in [task for task in running if task.done()]:
            done.result()
    await asyncio.gather(*running)
    await faults.heal()


def _num_kills(faults: Faults, cluster: Cluster) -> int:
    return sum(cluster.num_deaths.values()) + sum(one.kind in _REDIS_DEATHS for one in faults.done)


if __name__ == "__main__":
    sys.exit(main())

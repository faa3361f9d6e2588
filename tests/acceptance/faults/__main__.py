"""`python -m tests.acceptance.faults`: load and random faults for a while, then the report.

The exit status is 1 when a promise was broken or what lived on grew. Behind `make chaos` and `make endure`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.acceptance.faults.harness.cluster import Cluster
from tests.acceptance.faults.harness.faults import Faults
from tests.acceptance.faults.harness.load import Load
from tests.acceptance.faults.harness.plan import Planned, draw_plan
from tests.acceptance.faults.harness.recording import Engine, scripted, tiny
from tests.acceptance.faults.harness.supervised import Supervised
from tests.acceptance.faults.verdict.checker import check
from tests.acceptance.faults.verdict.growth import WARM_UP_S, table
from tests.acceptance.faults.verdict.leftovers import Finals, after_retention, all_over, leftovers, usage_of
from tests.acceptance.faults.verdict.report import Run, goals, show
from tests.acceptance.faults.verdict.resource_monitor import ResourceMonitor

#: A client that has no answer so long after the last fault hangs.
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
    if arguments.figures is not None:
        arguments.figures.write_text(json.dumps({"title": run.title, "figures": goals(run)}, indent=1) + "\n")
    return 0 if run.is_clean and not run.has_grown else 1


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
    parser.add_argument("--lease", type=float, default=1.0, help="BATON_LEASE_S (default: %(default)s)")
    parser.add_argument("--retention", type=float, default=300.0, help="BATON_RETENTION_S")
    parser.add_argument(
        "--steady", action="store_true", help="add a replica and a worker that live on, and a `baton up`"
    )
    parser.add_argument("--report", type=Path, help="also write the report to this file")
    parser.add_argument("--figures", type=Path, help="also write goals and figures to this file, as JSON")
    return parser.parse_args()


async def _run(arguments: argparse.Namespace, directory: Path) -> Run:
    engine = await (scripted(directory) if arguments.engine == "scripted" else tiny(directory))
    settings = {"LEASE_S": f"{arguments.lease:g}", "RETENTION_S": f"{arguments.retention:g}"}
    async with engine.cluster(
        appendfsync=arguments.appendfsync, READER_GRACE_S="15", PING_S="1", **settings
    ) as cluster:
        await cluster.begin("api", *(f"api-{number}" for number in range(arguments.replicas)))
        await cluster.begin("worker", *(f"worker-{number}" for number in range(arguments.workers)))
        for part in cluster.parts:
            part.keep()
        async with _steady(arguments, cluster, settings) as supervised:
            return await _disturb(arguments, engine, cluster, supervised)


@asynccontextmanager
async def _steady(
    arguments: argparse.Namespace, cluster: Cluster, settings: dict[str, str]
) -> AsyncIterator[Supervised | None]:
    """What lives as long as the run, where it is asked for."""
    if not arguments.steady:
        yield None
        return
    parts = [*await cluster.begin("api", "api-steady"), *await cluster.begin("worker", "worker-steady")]
    for part in parts:
        part.is_spared = True
    supervised = await Supervised.begin(cluster, {**settings, "PING_S": "1"})
    try:
        yield supervised
    finally:
        await supervised.end()


async def _disturb(
    arguments: argparse.Namespace, engine: Engine, cluster: Cluster, supervised: Supervised | None
) -> Run:
    started = time.monotonic()
    load = Load(
        [*cluster.urls, *(supervised.urls if supervised else ())],
        cluster.model,
        engine.shape,
        seed=arguments.seed,
        slots=arguments.clients,
        patience_s=_PATIENCE_S,
    )
    faults = Faults(cluster, load.histories)
    finals = Finals(cluster, load.histories, arguments.retention)

    def living() -> list[tuple[str, int]]:
        return [*cluster.living(), *(supervised.living() if supervised else ())]

    gauge = ResourceMonitor(living, cluster.client)
    beside = [asyncio.create_task(each) for each in (gauge.run(), finals.keep())]
    if supervised is not None:
        beside += [asyncio.create_task(each) for each in (supervised.keep_killing(faults), _tell(gauge))]
    await _do_all(arguments, faults, cluster, beside)
    histories = await load.finish()
    readings = gauge.readings()
    left = [f"{job_id} is not over" for job_id in await all_over(cluster, 60)]
    await _cancel(beside)
    if supervised is not None:
        await supervised.end()
    known = {job_id for history in histories for job_id in history.job_ids}
    found = await finals.of(sorted(known))
    left += await leftovers(cluster, known)
    left += [f"{key} after retention" for key in await after_retention(cluster)]
    return Run(
        title=_title(arguments),
        seconds=time.monotonic() - started,
        histories=histories,
        finals=list(found.values()),
        done=faults.done,
        deaths={
            **cluster.num_deaths,
            "redis": sum(one.kind in _REDIS_DEATHS for one in faults.done),
            **({"worker of baton up": supervised.num_deaths} if supervised else {}),
        },
        violations=check(histories, found, engine.reference),
        leftovers=left,
        lease_s=arguments.lease,
        num_swallowed=sum(part.proxy.num_swallowed for part in cluster.parts),
        usage=usage_of(cluster),
        readings=readings,
    )


async def _tell(gauge: ResourceMonitor) -> None:
    """What has been read so far, now and then, until cancelled."""
    while True:
        await asyncio.sleep(WARM_UP_S)
        sys.stdout.write("\n".join([*table(gauge.readings()), ""]))


def _title(arguments: argparse.Namespace) -> str:
    length = f"SECONDS={arguments.seconds:g}" if arguments.kills is None else f"KILLS={arguments.kills}"
    return (
        f"make {'endure' if arguments.steady else 'chaos'} ENGINE={arguments.engine} {length} "
        f"SEED={arguments.seed}: a fault every {arguments.gap:g} s, {arguments.clients} clients, "
        f"appendfsync {arguments.appendfsync}, lease {arguments.lease:g} s"
    )


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task


_REDIS_DEATHS = ("redis kill", "redis tail cut", "redis set back")


def _planned(arguments: argparse.Namespace) -> Iterator[Planned]:
    for part in itertools.count():
        yield from draw_plan(arguments.seed + part * 1_000_003, mean_gap_s=arguments.gap, faults=_PLAN)


async def _do_all(
    arguments: argparse.Namespace, faults: Faults, cluster: Cluster, beside: list[asyncio.Task[None]]
) -> None:
    """Faults one after the other, each healing by itself while others begin; what fails beside ends it."""
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
        for done in [task for task in (*running, *beside) if task.done()]:
            done.result()
            running.discard(done)
    await asyncio.gather(*running)
    await faults.heal()


def _num_kills(faults: Faults, cluster: Cluster) -> int:
    return sum(cluster.num_deaths.values()) + sum(one.kind in _REDIS_DEATHS for one in faults.done)


if __name__ == "__main__":
    sys.exit(main())

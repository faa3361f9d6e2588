"""ClusterStats: what is left when everything is over: of jobs their streams, of everything else nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import suppress
from typing import cast

import psutil

from shared.domain.events import Entry, Output, event_type
from shared.domain.job import Job
from shared.errors import StoreUnavailable
from shared.store import keys
from shared.store.job_store import JobStore
from tests.acceptance.faults.harness.cluster import Cluster
from tests.acceptance.faults.harness.http import Unreachable, fetch
from tests.acceptance.faults.verdict.figures import Usage
from tests.acceptance.faults.verdict.history import Final, History

#: Keys that outlive all jobs: of models, of Celery, and of the order of acceptance.
_LASTING = (
    keys.MODELS,
    keys.MODEL_TIMES,
    keys.WORKERS,
    keys.REPLICAS,
    keys.ACCEPT_SEQ,
    "baton:worker:",
    "baton:replica:",
    "baton:throughput:",
    "baton:_kombu.binding",
    "baton:unacked",
    "baton:celery",
)
#: File descriptors beyond the first ones that a replica may keep: connections to Redis of its pools.
_POOLED_FDS = 70
#: Seconds between two looks at which jobs are over.
_COLLECT_S = 10.0
#: A job may have ended so long (s) before it was read; Redis may have been away meanwhile.
_SLACK_S = 60.0


async def final_of(cluster: Cluster, job_id: str) -> Final | None:
    """A job as the store has it; None when it is not there."""
    job = await cluster.store.get(job_id)
    return None if job is None else _final(job, await cluster.store.entries(job_id))


def _final(job: Job, entries: list[Entry]) -> Final:
    positions = [0] * job.n
    texts: list[list[str]] = [[] for _ in range(job.n)]
    token_ids: list[list[int]] = [[] for _ in range(job.n)]
    finishes: list[str | None] = [None] * job.n
    is_joined = True
    for entry in entries:
        if isinstance(entry.event, Output):
            for choice in entry.event.choices:
                is_joined = is_joined and choice.start == positions[choice.index]
                positions[choice.index] = choice.end
                texts[choice.index] += choice.texts
                token_ids[choice.index] += choice.token_ids or ()
                finishes[choice.index] = choice.finish.reason if choice.finish else finishes[choice.index]
        is_joined = is_joined and entry.end == tuple(positions)
    return Final(
        job_id=job.id,
        status=job.status,
        ends=tuple(event_type(entry.event) for entry in entries if entry.is_terminal),
        is_ended_last=bool(entries) and entries[-1].is_terminal,
        texts=tuple(map(tuple, texts)),
        finishes=tuple(finishes),
        is_joined=is_joined,
        completion_tokens=job.used.completion,
        attempts=job.attempts,
        reason=job.reason,
        token_ids=tuple(map(tuple, token_ids)),
    )


async def finals_of(cluster: Cluster, job_ids: Iterable[str]) -> dict[str, Final]:
    """Those of these jobs that are there."""
    return await finals_in(cluster.store, job_ids)


async def finals_in(store: JobStore, job_ids: Iterable[str]) -> dict[str, Final]:
    """The same in any store."""
    jobs = [await store.get(job_id) for job_id in job_ids]
    return {job.id: _final(job, await store.entries(job.id)) for job in jobs if job is not None}


class Finals:
    """Jobs as they ended, read while the load goes on: in a long run retention forgets them meanwhile.

    Those that retention may not yet have forgotten are read at the end, and have to be there.
    """

    def __init__(self, cluster: Cluster, histories: Sequence[History], retention_s: float) -> None:
        self._cluster = cluster
        self._histories = histories
        self._retention_s = retention_s
        self._waiting: set[str] = set()
        #: With the time of reading.
        self._found: dict[str, tuple[float, Final]] = {}

    async def keep(self) -> None:
        """Read those that are over, until cancelled."""
        while True:
            await asyncio.sleep(_COLLECT_S)
            with suppress(StoreUnavailable):
                await self._collect()

    async def _collect(self) -> None:
        for history in self._histories:
            self._waiting |= history.job_ids - self._found.keys()
        for job_id in list(self._waiting):
            final = await final_of(self._cluster, job_id)
            # The record was read before the stream, which by then may have gone on.
            if final is not None and final.status in final.ends:
                self._found[job_id] = time.monotonic(), final
                self._waiting.discard(job_id)

    async def of(self, job_ids: Iterable[str]) -> dict[str, Final]:
        """Those of these jobs that are there, or were for as long as they should."""
        since = time.monotonic() - self._retention_s + _SLACK_S
        forgotten = {job_id: final for job_id, (at, final) in self._found.items() if at < since}
        return {**forgotten, **await finals_of(self._cluster, job_ids)}


async def all_over(cluster: Cluster, within_s: float) -> list[str]:
    """Wait until no job is active. Answers what still is, after that time."""
    deadline = time.monotonic() + within_s
    left = []
    while time.monotonic() < deadline:
        try:
            left = (await cluster.store.survey(limit=1000)).active
            if not left:
                return []
        except StoreUnavailable:
            left = ["(Redis does not answer)"]
        await asyncio.sleep(0.1)
    return left


async def leftovers(cluster: Cluster, known: set[str], within_s: float = 30) -> list[str]:
    """What should not be there once all jobs are over; asked until nothing is or the time is up."""
    deadline = time.monotonic() + within_s
    while (found := await _leftovers(cluster, known)) and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
    return found


async def _leftovers(cluster: Cluster, known: set[str]) -> list[str]:
    return [
        *await _in_store(cluster, known),
        *await _in_workers(cluster),
        *[each for api in cluster.apis for each in await _in_api(api.url, api.pid, api.first_fds)],
    ]


async def _in_store(cluster: Cluster, known: set[str]) -> list[str]:
    client, found = cluster.client, []
    if waiting := await cluster.store.num_queued(cluster.model):
        found.append(f"{waiting} jobs in the queue")
    if wake_ups := await client.llen(keys.broker_list(cluster.model)):
        found.append(f"{wake_ups} wake_ups in Celery's list")
    for member in await cast(Awaitable[list[str]], client.zrange(keys.DEADLINES, 0, -1)):
        if not member.startswith("retention:"):
            found.append(f"deadline {member}")
    async for key in client.scan_iter("baton:job:*", count=1000):
        job_id = key.split(":")[2]
        if not key.endswith(":events") and job_id not in known:
            found.append(f"{job_id} is nobody's")
    return found


async def _in_workers(cluster: Cluster) -> list[str]:
    found, living = [], {worker.pid for worker in cluster.workers if worker.is_alive}
    for worker in await cluster.store.workers():
        if worker.pid not in living:
            found.append(f"lease of the dead {worker.worker_instance}")
        elif worker.jobs or worker.wake_ups or worker.stats.get("running") or worker.stats.get("sequences"):
            found.append(
                f"{worker.worker_instance}: {worker.jobs} jobs, {worker.wake_ups} wake_ups, {worker.stats}"
            )
    for key in await cluster.client.keys("baton:worker:*:jobs"):
        found.append(f"claim_tokens in {key!r}")
    return found


async def _in_api(url: str, pid: int, first_fds: int) -> list[str]:
    try:
        metrics = (await fetch("GET", url, "/metrics", within_s=5)).body.decode()
    except Unreachable:
        return [f"{url} does not answer"]
    found = [f"{url}: {line}" for line in metrics.splitlines() if line.startswith("baton_subscriptions ")]
    found = [line for line in found if not line.endswith(" 0.0")]
    process = psutil.Process(pid)
    fds = process.num_fds()
    port = int(url.rpartition(":")[2])
    clients = [
        one
        for one in process.net_connections("tcp")
        if one.laddr.port == port and one.status == psutil.CONN_ESTABLISHED
    ]
    if clients:
        found.append(f"{url}: {len(clients)} connections")
    if first_fds and fds > first_fds + _POOLED_FDS:
        found.append(f"{url}: {fds} file descriptors, {first_fds} at first")
    return found


def usage_of(cluster: Cluster) -> list[Usage]:
    """Of every process that lives."""
    found = [(name, psutil.Process(pid)) for name, pid in cluster.living()]
    return [Usage(name, process.memory_info().rss, process.num_fds()) for name, process in found]


#: What PTTL says of a key that nothing removes.
_WITHOUT_LIFETIME = -1


async def after_retention(cluster: Cluster, within_s: float = 30) -> list[str]:
    """Let the retention of all jobs be over; answers the keys that then are there and should not be.

    A key with a lifetime, such as the mark of a withdrawn job, goes by itself.
    """
    client = cluster.client
    for member in await cast(Awaitable[list[str]], client.zrange(keys.DEADLINES, 0, -1)):
        await client.zadd(keys.DEADLINES, {member: 0}, xx=True)
    deadline = time.monotonic() + within_s
    left: list[str] = []
    while time.monotonic() < deadline:
        found = [key async for key in client.scan_iter(count=1000) if not key.startswith(_LASTING)]
        left = [key for key in found if await client.pttl(key) == _WITHOUT_LIFETIME]
        if not left:
            break
        await asyncio.sleep(0.2)
    return left

"""F30: everything is restarted under load, from one version to another, both at work on one Redis.

Versions may compute differently, so readers are held against what the store says that was answered.
"""

from __future__ import annotations

import asyncio
import io
import signal
import subprocess
import tarfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from shared.domain.events import Resumed
from tests.acceptance.faults.harness import preloaded_worker
from tests.acceptance.faults.harness.cluster import Cluster, Part, Role, eventually
from tests.acceptance.faults.harness.fork_server import ForkServer
from tests.acceptance.faults.harness.load import Load, Shape
from tests.acceptance.faults.harness.recording import tiny_cluster
from tests.acceptance.faults.verdict.checker import check
from tests.acceptance.faults.verdict.history import History
from tests.acceptance.faults.verdict.leftovers import after_retention, all_over, finals_of, leftovers
from tests.acceptance.faults.verdict.reference import Told

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600), pytest.mark.matrix]

#: The first version whose records later ones read: the first commit with these words in this file. An upgrade from
#: any version before needs a stop. It is installed here under a version number of its own.
EARLIER = ('-Sversion = "0.2.0"', "--", "pyproject.toml")
VERSION = "0.1.9"
ROOT = Path(__file__).parents[3]
LONG = Shape(tokens=(200, 400))
MODULES: dict[Role, str] = {"api": "api.main", "worker": preloaded_worker.__name__}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of that commit, with a version of its own. Needs the history: no shallow clone has it."""
    tree = tmp_path_factory.mktemp("earlier")
    commit = git("log", "--reverse", "--format=%H", *EARLIER).decode().split()[0]
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit))) as archive:
        archive.extractall(tree, filter="data")
    # Rig, not product: workers that are forks of a process with torch.
    worker = Path(preloaded_worker.__file__)
    (tree / worker.relative_to(ROOT)).write_text(worker.read_text())
    installed = tree / f"baton-{VERSION}.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: baton\nVersion: {VERSION}\n")
    return tree


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout


class Site:
    """A cluster with parts of both versions, and the load on it."""

    def __init__(self, cluster: Cluster, earlier: ForkServer) -> None:
        self.cluster = cluster
        self._earlier = earlier

    async def begin(self, role: Role, *names: str, is_earlier: bool = False) -> list[Part]:
        """Parts of one version, ready."""
        parts = [self.cluster.add(role, name) for name in names]
        for part in parts:
            part.origin = (self._earlier, MODULES[role]) if is_earlier else None
            await part.start()
        for part in parts:
            await part.ready()
        return parts

    async def retire(self, part: Part) -> None:
        """As a rolling restart does: SIGTERM, and wait until it has ended by itself."""
        assert part.life is not None
        part.life.signal(signal.SIGTERM)
        assert await part.life.status(within_s=60) == 0, part.life.last_words()
        await self.cluster.remove(part)

    async def versions(self) -> set[str]:
        """Of the workers that are there."""
        return {w.fingerprint.baton for w in await self.cluster.store.workers() if w.fingerprint is not None}

    async def jobs_of(self, part: Part) -> int:
        lease = await part.lease()
        return 0 if lease is None else lease.jobs


@pytest_asyncio.fixture(loop_scope="module")
async def site(tiny_model: Path, earlier: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(tiny_cluster(tiny_model, READER_GRACE_S="15", PING_S="1"))
        fork_server = await stack.enter_async_context(ForkServer(*MODULES.values(), tree=earlier))
        yield Site(cluster, fork_server)


async def kill_at_work(site: Site, part: Part) -> None:
    """kill -9 while it has jobs; nobody starts it again."""

    async def is_at_work() -> bool:
        return await site.jobs_of(part) > 0

    await eventually(is_at_work, 60, f"{part.name} is at work")
    assert part.life is not None
    part.life.kill()
    await part.life.status()
    await site.cluster.remove(part)


async def hold_to_promise(cluster: Cluster, histories: list[History]) -> None:
    assert await all_over(cluster, 60) == []
    seeds = {history.job_id: history.ask.seed for history in histories if history.job_id is not None}
    finals = await finals_of(cluster, seeds)
    told = Told({seeds[final.job_id]: final for final in finals.values()})
    assert check(histories, finals, told) == []
    assert await leftovers(cluster, set(seeds)) == []


async def resumptions(cluster: Cluster, histories: list[History]) -> list[tuple[str, Resumed]]:
    """Of all jobs: who went on before tokens and after others, in order."""
    found: list[tuple[str, Resumed]] = []
    for job_id in sorted({job_id for history in histories for job_id in history.job_ids}):
        for entry in await cluster.store.entries(job_id):
            if isinstance(entry.event, Resumed) and any(entry.end):
                found.append((job_id, entry.event))
    return found


async def test_a_rolling_restart_from_an_earlier_version(site: Site) -> None:
    """Workers first, then replicas, as docs/reliability.md says; nothing is dropped, nothing changed."""
    cluster = site.cluster
    old_apis = await site.begin("api", "api-1", "api-2", is_earlier=True)
    old_workers = await site.begin("worker", "old-1", "old-2", "old-3", is_earlier=True)
    assert await site.versions() == {VERSION}
    urls = cluster.urls
    load = Load(urls, cluster.model, LONG, seed=3, slots=8, patience_s=120)
    (first,) = await site.begin("worker", "new-1")
    assert len(await site.versions()) == 2
    await kill_at_work(site, old_workers[0])
    await kill_at_work(site, first)
    await site.begin("worker", "new-2", "new-3")
    for part in old_workers[1:]:
        await site.retire(part)
    assert VERSION not in await site.versions()
    for part, name in zip(old_apis, ("api-3", "api-4"), strict=True):
        urls += [new.url for new in await site.begin("api", name)]
        urls.remove(part.url)
        await site.retire(part)
    await asyncio.sleep(1)
    histories = await load.finish()
    await hold_to_promise(cluster, histories)
    found = await resumptions(cluster, histories)
    went_over = [event for _, event in found if event.worker.startswith("new")]
    assert went_over and not any(event.exact for event in went_over)
    assert await after_retention(cluster) == []

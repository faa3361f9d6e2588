"""Runs `baton up` after the preparation, until the last process has ended."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager

import httpx
from rich.console import Console

from cli.supervisor.child import Child
from cli.supervisor.display.banner import banner
from cli.supervisor.display.status_display import Display
from cli.supervisor.lease_releaser import LeaseReleaser
from cli.supervisor.probes import Probes
from cli.supervisor.redis_version import RedisData
from cli.supervisor.setup.flower_password import keep_flower_auth
from cli.supervisor.setup.home import Home
from cli.supervisor.setup.prepare import Prepared
from cli.supervisor.start_requests import StartRequests
from cli.supervisor.state_file import StateFile
from cli.supervisor.supervisor import ChildFailed, Supervisor
from shared.cluster.celery_app import make_celery
from shared.cluster.wake_up_sender import WakeUpSender
from shared.store.job_store import JobStore
from shared.store.redis_client import connect

logger = logging.getLogger(__name__)

#: Interval between requests to `/health/ready` during the start.
_POLL_S = 0.2


async def run(prepared: Prepared, home: Home, lock: int, console: Console) -> None:
    """Start everything and wait for a signal. Raises ChildFailed. No process is left behind in any case."""
    display = Display(console)
    state_file = StateFile(home.path)

    def on_change(children: Sequence[Child]) -> None:
        try:
            state_file.write(child.report for child in children)
            if prepared.redis_version and any(_is_ready_redis(child) for child in children):
                RedisData(home.redis).keep_version(prepared.redis_version)
        except OSError as error:  # the disk is full: `baton ps` shows what was before
            logger.error("cannot write the state of the processes: %s", error)
        display.changed(children)

    async with _collaborators(prepared) as (probes, lease_releaser):
        supervisor = Supervisor(
            prepared.plans,
            logs=home.logs,
            lock=lock,
            probe=probes.is_ready,
            on_worker_death=lease_releaser.release,
            on_change=on_change,
            requests=StartRequests(home.path),
        )
        stop = _stop_signal(supervisor)
        try:
            await _until(stop, _work(supervisor, display, probes, prepared, home))
        finally:
            display.line("stopping …")
            await supervisor.stop()


def _is_ready_redis(child: Child) -> bool:
    return child.plan.role == "redis" and child.state == "ready"


async def _work(
    supervisor: Supervisor, display: Display, probes: Probes, prepared: Prepared, home: Home
) -> None:
    """Start everything, print the banner, and keep the processes running."""
    if prepared.redis_version is None and (reason := await probes.why_no_redis()):
        display.line(f"BATON_REDIS_URL: Redis does not answer, everything waits for it: {reason}")
    try:
        async with asyncio.TaskGroup() as keepers:
            with display:
                await supervisor.start(keepers)
                while not await probes.answers(f"{prepared.api_url}/health/ready"):
                    await asyncio.sleep(_POLL_S)
            for line in banner(prepared, home):
                display.line(line)
            keep_flower_auth(home.flower_password, prepared.flower_auth)
    except BaseExceptionGroup as group:
        failures, others = group.split(ChildFailed)
        if others or not failures:
            raise
        raise failures.exceptions[0] from None


async def _until(stop: asyncio.Event, work: Coroutine[None, None, None]) -> None:
    """Run `work` until it fails or `stop` is set."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        working.result()
    working.cancel()
    await asyncio.wait({working})


def _stop_signal(supervisor: Supervisor) -> asyncio.Event:
    """An event that the first stop signal sets. A second Ctrl-C kills everything."""
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            supervisor.kill()
        stop.set()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, on_signal)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    return stop


@asynccontextmanager
async def _collaborators(prepared: Prepared) -> AsyncIterator[tuple[Probes, LeaseReleaser]]:
    redis = connect(prepared.redis_url, timeout_s=1)
    broker = connect(prepared.broker_url, timeout_s=1)
    celery = make_celery(prepared.broker_url)
    sender = WakeUpSender(celery, broker)
    store = JobStore(redis)
    try:
        # Ignore a proxy from the environment: these processes run on this machine. They use plain HTTP, so an empty
        # TLS context is enough; loading the system's certificates takes 40 ms.
        trust_none = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        async with httpx.AsyncClient(timeout=1, trust_env=False, verify=trust_none) as http:
            yield Probes(store, http), LeaseReleaser(store, sender)
    finally:
        sender.close()
        celery.close()
        await redis.aclose()
        await broker.aclose()

"""Starts child processes in order, restarts the ones that die, and stops them in order."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.supervisor.backoff import Backoff
from cli.supervisor.child import Child
from cli.supervisor.display.log_line import log_text
from cli.supervisor.plan import ChildPlan
from cli.supervisor.probes import Probe
from cli.supervisor.start_requests import StartRequests
from cli.supervisor.state_file import Role
from shared.runtime.cancellation import cancel_and_wait
from shared.runtime.exit_codes import EX_DRAINED, EX_OSERR

logger = logging.getLogger(__name__)

#: First and longest interval between two probes of a child that is starting. Redis needs only about 20 ms.
_FIRST_PROBE_S, _PROBE_S = 0.01, 0.1
#: Interval between checks for a request to start a drained worker.
_REQUEST_S = 0.2
#: During the first start, give up on a child after this many deaths in a row.
_START_ATTEMPTS = 3
#: Stages of the start: the roles to start together, and the roles that must be ready before the next stage. Flower
#: comes last because it would slow down the others while they import.
_START_ORDER: tuple[tuple[frozenset[Role], frozenset[Role]], ...] = (
    (frozenset({"redis"}), frozenset({"redis"})),
    (frozenset({"api", "worker"}), frozenset({"api"})),
    (frozenset({"flower"}), frozenset({"flower", "worker"})),
)
#: Stages of the stop. Workers come first because they need Redis to release their jobs.
_STOP_ORDER: tuple[frozenset[Role], ...] = (
    frozenset({"worker"}), frozenset({"api", "flower"}), frozenset({"redis"})
)  # fmt: skip


class ChildFailed(CommandError):
    """Raised when a child does not start. The message contains the last lines of its log."""


class Supervisor:
    """One run of a set of children."""

    def __init__(
        self,
        plans: Sequence[ChildPlan],
        *,
        logs: Path,
        lock: int,
        probe: Probe,
        on_worker_death: Callable[[str, int], Awaitable[None]],
        on_change: Callable[[Sequence[Child]], None],
        requests: StartRequests,
        grace_s: float = 10.0,
    ) -> None:
        self.children = [Child(plan, logs, lock) for plan in plans]
        self._probe = probe
        self._on_worker_death = on_worker_death
        self._on_change = on_change
        self._requests = requests
        self._grace_s = grace_s
        self._is_up = False
        self._notices: set[asyncio.Task[None]] = set()

    async def start(self, keepers: asyncio.TaskGroup) -> None:
        """Start all children in order. The tasks that restart them are added to `keepers`.

        The tasks raise ChildFailed if a child does not start. They no longer raise once all have been ready.
        """
        ready = {child.plan.id: asyncio.Event() for child in self.children}
        for started, awaited in _START_ORDER:
            for child in self._of(started):
                keepers.create_task(self._keep(child, ready[child.plan.id]))
            for child in self._of(awaited):
                await ready[child.plan.id].wait()
        self._is_up = True

    async def stop(self) -> None:
        """Stop all children in order. Each stage takes at most the grace period."""
        await cancel_and_wait(self._notices)
        for roles in _STOP_ORDER:
            stage = self._of(roles)
            await asyncio.gather(*(child.stop(self._grace_s) for child in stage))
            for child in stage:
                logger.info("%s is stopped", child.plan.id)
            self._on_change(self.children)

    def kill(self) -> None:
        """Kill all children immediately."""
        for child in self.children:
            if child.pid is not None:
                child.kill()

    def _of(self, roles: frozenset[Role]) -> list[Child]:
        return [child for child in self.children if child.plan.role in roles]

    async def _keep(self, child: Child, ready: asyncio.Event) -> None:
        backoff = Backoff()
        attempt = 0
        while True:
            attempt = 0 if ready.is_set() else attempt + 1
            status = await self._run_once(child, ready)
            if status == EX_DRAINED:
                await self._await_start_request(child, ready)
                continue
            self._check_start(child, status, attempt)
            wait_s = backoff.wait_s(None if child.ready_at is None else time.monotonic() - child.ready_at)
            child.state = "restarting"
            child.exit_reason = f"{describe_exit(status)}, restarting in {wait_s:g} s"
            logger.warning("%s %s", child.plan.id, child.exit_reason)
            self._on_change(self.children)
            await asyncio.sleep(wait_s)

    async def _run_once(self, child: Child, ready: asyncio.Event) -> int:
        """Runs a child until it ends and returns its exit status."""
        try:
            await child.start()
        except OSError as error:  # no memory, no process, no room for its log
            logger.error("%s does not start: %s", child.plan.id, error)
            return EX_OSERR
        logger.info("%s started as process %s", child.plan.id, child.pid)
        self._on_change(self.children)
        async with asyncio.TaskGroup() as life:
            prober = life.create_task(self._await_ready(child, ready))
            status = await child.wait()
            prober.cancel()
        child.kill()
        if child.plan.role == "worker" and child.last_pid is not None:
            notice = asyncio.create_task(self._give_notice(child.plan.id, child.last_pid))
            self._notices.add(notice)
            notice.add_done_callback(self._notices.discard)
        return status

    async def _give_notice(self, name: str, pid: int) -> None:
        """Report a worker's death. The next start does not wait for it, and no failure of it ends the supervisor."""
        try:
            await self._on_worker_death(name, pid)
        except Exception:
            logger.exception("the notice of the death of %s failed", name)

    async def _await_ready(self, child: Child, ready: asyncio.Event) -> None:
        wait_s = _FIRST_PROBE_S
        while child.pid is not None and not await self._is_ready(child.plan, child.pid):
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _PROBE_S)
        if child.pid is not None:
            child.state = "ready"
            child.ready_at = time.monotonic()
            logger.info("%s is ready", child.plan.id)
            ready.set()
            self._on_change(self.children)

    async def _is_ready(self, plan: ChildPlan, pid: int) -> bool:
        """Probe a child. It is not ready if the probe itself fails."""
        try:
            return await self._probe(plan, pid)
        except Exception:
            logger.exception("the probe of %s failed", plan.id)
            return False

    async def _await_start_request(self, child: Child, ready: asyncio.Event) -> None:
        """A drained worker stays stopped until its start is requested."""
        self._requests.take(child.plan.id)  # discard a request from before the drain
        child.state = "drained"
        ready.set()
        self._on_change(self.children)
        while not self._requests.take(child.plan.id):
            await asyncio.sleep(_REQUEST_S)

    def _check_start(self, child: Child, status: int, attempt: int) -> None:
        """Raises ChildFailed if a child that was never ready has failed for good."""
        is_config_error = status == ExitCode.CONFIG
        if self._is_up or not (is_config_error or attempt >= _START_ATTEMPTS):
            return
        child.state = "failed"
        logger.error("%s failed to start: %s", child.plan.id, describe_exit(status))
        self._on_change(self.children)
        lines = child.last_lines(1 if is_config_error else 15) or ["(its log is empty)"]
        raise ChildFailed(
            f"{child.plan.id} failed to start: {describe_exit(status)}\n"
            + "\n".join(map(log_text, lines))
            + f"\nlog: {child.log}",
            ExitCode.CONFIG if is_config_error else ExitCode.FAILED,
        )


def describe_exit(status: int) -> str:
    """An exit status in words."""
    if status == EX_OSERR:
        return "could not be started"
    if status >= 0:
        return f"exited with code {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal
        return f"killed by signal {-status}"

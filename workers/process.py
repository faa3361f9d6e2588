"""Process: runs one worker with Celery around a backend, until a signal or a drain."""

from __future__ import annotations

import logging
import os
import signal
import socket
import warnings
from typing import NoReturn

from celery import Celery, signals
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning

from shared.cluster.celery_app import make_celery, model_queue
from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.lease import Lease
from shared.runtime.exit_codes import EX_DRAINED, EX_SOFTWARE
from shared.runtime.gc_tuning import freeze
from shared.store import keys
from shared.store.job_store import JobStore
from shared.store.redis_client import connect
from workers.backends.backend import Backend
from workers.celery_app.pool import TaskPool
from workers.celery_app.tasks import register_wake_up_task
from workers.celery_app.transport import WakeUpConnection
from workers.runtime.assembly import make_worker
from workers.runtime.worker_thread import WorkerThread
from workers.settings import WorkerSettings

logger = logging.getLogger(__name__)

#: Timeout of a call to Redis.
_REDIS_TIMEOUT_S = 2.0


class DrainSignal:
    """Sends this process a SIGTERM, once, when the store asks the worker to drain."""

    def __init__(self) -> None:
        #: Whether the store asked for the drain.
        self.is_given = False

    def give(self) -> None:
        """May be called from any thread. Celery stops consuming first, in the main thread."""
        if not self.is_given:
            self.is_given = True
            logger.info("asked to drain")
            os.kill(os.getpid(), signal.SIGTERM)


def serve(settings: WorkerSettings, backend: Backend, device: str) -> int:
    """Work until a signal or a drain ends it; the exit status. To be called in the main thread."""
    drain = DrainSignal()
    celery = make_celery(settings.broker_url)
    register_wake_up_task(celery)
    worker = make_worker(
        JobStore(connect(settings.redis_url, timeout_s=_REDIS_TIMEOUT_S)),
        WakeUpSender(celery, connect(settings.broker_url, timeout_s=_REDIS_TIMEOUT_S)),
        _lease(settings, backend, device),
        backend,
        lease_s=settings.lease_s,
        on_death=_die,
        on_drain=drain.give,
        finish_s=settings.drain_s,
    )
    description = {"worker": settings.name, "device": device, "model": settings.model_name}
    pool = TaskPool.bound_to(WorkerThread(worker, description, on_death=_die))
    freeze()
    status = _consume(celery, settings, pool)
    return EX_DRAINED if drain.is_given else status


def _lease(settings: WorkerSettings, backend: Backend, device: str) -> Lease:
    return Lease(
        worker_instance="",  # drawn by the LeaseKeeper
        name=settings.name,
        model=settings.model_name,
        host=socket.gethostname(),
        pid=os.getpid(),
        device=device,
        slots=settings.slots,
        model_revision=backend.model_revision,
        is_exact=backend.is_exact,
        fingerprint=backend.fingerprint,
        can_continue=backend.can_continue,
        max_model_len=backend.max_model_len,
    )


def _consume(celery: Celery, settings: WorkerSettings, pool: type[TaskPool]) -> int:
    # Celery warns when it runs as root. Task bodies never run here and messages are JSON, so root adds no risk.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    # After each broken connection Celery asks for a setting that is already set.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    celery.amqp.Connection = WakeUpConnection
    celery.conf.task_queues = [model_queue(settings.model_name)]
    signals.setup_logging.connect(_keep_logging)
    consumer = celery.Worker(
        hostname=f"{settings.name}@{socket.gethostname()}",
        pool=pool,
        concurrency=settings.slots,
        queues=[keys.wake_up_queue(settings.model_name)],
        loglevel=settings.log_level.upper(),
        task_events=True,
        without_mingle=True,
        without_gossip=True,
        redirect_stdouts=False,
        quiet=True,
    )
    consumer.start()
    return int(consumer.exitcode or 0)


def _keep_logging(**_: object) -> None:
    """Keep our logging. Celery does not configure its own if this signal has a receiver."""


def _die(error: BaseException) -> NoReturn:
    """End the process at once, from any thread. Other workers continue its jobs."""
    logger.critical("ending this worker: %s", type(error).__name__, exc_info=error)
    os._exit(EX_SOFTWARE)

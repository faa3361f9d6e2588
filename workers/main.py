"""`python -m workers.main`: runs one worker on one device. BATON_* variables configure it."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

from shared.errors import BatonError
from shared.runtime.exit_codes import EX_CONFIG
from shared.runtime.gc_tuning import gc_paused
from shared.runtime.logs import configure_logging, log_uncaught
from shared.settings import Environment
from shared.store.redis_client import check_access
from workers.backends.backend import Backend
from workers.device import Device, pin
from workers.settings import WorkerSettings

logger = logging.getLogger(__name__)


#: How long a thread may hold the interpreter while another waits. Python's default of 5 ms is as long as a whole step,
#: and Celery's thread is often busy just when the engine starts one.
_SWITCH_S = 0.0005


def main() -> int:
    """Return the exit status. Report a configuration error as one line on stderr."""
    try:
        environment = Environment(os.environ)
        settings = WorkerSettings.from_environment(environment)
        configure_logging("worker", settings.name, level=settings.log_level, form=settings.log_format)
        log_uncaught()
        if environment.ignored:
            logger.warning("%s", environment.ignored)
        check_access({"BATON_REDIS_URL": settings.redis_url, "BATON_BROKER_URL": settings.broker_url})
        device = pin(settings.device, os.environ, threads=settings.threads)
        backend = _load(settings, device)
    except BatonError as error:
        sys.stderr.write(" ".join(str(error).split()) + "\n")
        return EX_CONFIG
    from workers.process import serve

    sys.setswitchinterval(_SWITCH_S)
    return serve(settings, backend, device.name)


def _load(settings: WorkerSettings, device: Device) -> Backend:
    """Load the backend. This imports torch, so the device must be pinned before."""
    if Path(settings.model).is_dir():
        os.environ["HF_HUB_OFFLINE"] = "1"
    with gc_paused():
        from workers.backends.loading import load_local

    return load_local(settings, device)


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # The jobs are requeued. Shutting torch down properly would only delay the exit.
    os._exit(status)

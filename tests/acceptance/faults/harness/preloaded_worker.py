"""`workers.main` for the fork_server, which has imported torch when it forks: so nothing can be pinned."""

from __future__ import annotations

import os
import sys

from shared.runtime.logs import configure_logging, log_uncaught
from shared.settings import Environment
from workers.backends.loading import load_local
from workers.device import Device
from workers.process import serve
from workers.settings import WorkerSettings

#: As in workers.main.
_SWITCH_S = 0.0005


def main() -> int:
    settings = WorkerSettings.from_environment(Environment(os.environ))
    configure_logging("worker", settings.name, level=settings.log_level, form=settings.log_format)
    log_uncaught()
    backend = load_local(settings, Device("cpu", "cpu"))
    sys.setswitchinterval(_SWITCH_S)
    return serve(settings, backend, "cpu")


if __name__ == "__main__":
    sys.exit(main())

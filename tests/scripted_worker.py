"""`python -m tests.scripted_worker [--step-s 0.01]`: a real worker process on the scripted backend."""

from __future__ import annotations

import argparse
import os
import sys

from shared.runtime.logs import configure_logging
from shared.settings import Environment
from tests.scripted_backend import ScriptedEngine, scripted_backend
from workers.process import serve
from workers.settings import WorkerSettings


def main(kind: type[ScriptedEngine] = ScriptedEngine) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--step-s", type=float, default=0.01, help="seconds that each step takes")
    arguments = parser.parse_args()
    settings = WorkerSettings.from_environment(Environment(os.environ))
    configure_logging("worker", settings.name, level=settings.log_level, form=settings.log_format)
    backend = scripted_backend(slots=settings.slots, step_s=arguments.step_s, kind=kind)
    return serve(settings, backend, "cpu")


if __name__ == "__main__":
    sys.exit(main())

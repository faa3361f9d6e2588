"""Starts Flower (https://flower.readthedocs.io) on Baton's broker: `python -m cli.flower_entry`.

It is configured by BATON_* variables. The password is passed in the environment, never on a command line.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Mapping

from cli.exit_codes import ExitCode
from cli.flower_guard import guard
from shared import settings
from shared.cluster.celery_app import make_celery
from shared.errors import SettingsError
from shared.runtime.logs import configure_logging, log_uncaught
from shared.store.redis_client import check_access

logger = logging.getLogger(__name__)


def flower_environment(env: settings.Environment) -> dict[str, str]:
    """Flower's own variables. Raises SettingsError if there is no password: Flower would be open to anyone."""
    auth = env.read(settings.FLOWER_BASIC_AUTH)
    if not all(auth.partition(":")):
        raise SettingsError("BATON_FLOWER_AUTH must be set to user:password")
    return {
        "FLOWER_BASIC_AUTH": auth,
        "FLOWER_ADDRESS": env.read(settings.HOST),
        "FLOWER_PORT": str(env.read(settings.FLOWER_PORT)),
        "FLOWER_PERSISTENT": "false",
        # Flower keeps at least 5 KiB a task.
        "FLOWER_MAX_TASKS": "2000",
        # A restarted worker registers under a new name, so forget the old one.
        "FLOWER_PURGE_OFFLINE_WORKERS": "60",
    }


def broker_url(env: settings.Environment) -> str:
    """Raises SettingsError when neither variable is set."""
    url = env.read(settings.BROKER_URL) or env.read(settings.REDIS_URL)
    if not url:
        raise SettingsError("BATON_REDIS_URL is not set; set it to the Redis URL that the API uses")
    return url


def _log(env: settings.Environment) -> None:
    """Flower and its web server use the log handler that is installed here."""
    name = f"{socket.gethostname()}:{env.read(settings.FLOWER_PORT)}"
    configure_logging("flower", name, level=env.read(settings.LOG_LEVEL), form=env.read(settings.LOG_FORMAT))
    log_uncaught()
    if env.ignored:
        logger.warning("%s", env.ignored)


def main(environ: Mapping[str, str] = os.environ) -> None:
    try:
        env = settings.Environment(environ)
        variables, url = flower_environment(env), broker_url(env)
        _log(env)
        check_access({"BATON_BROKER_URL": url})
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(ExitCode.CONFIG)
    os.environ.update(variables)
    guard()
    make_celery(url).start(["flower"])


if __name__ == "__main__":
    main()

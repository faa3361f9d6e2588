"""Entry of an API replica: `python -m api.main`, configured by BATON_* variables."""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
from functools import partial

import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.http.serving.protocol import Connection
from api.http.serving.server import Server
from api.settings import ApiSettings
from shared.errors import SettingsError
from shared.runtime.exit_codes import EX_CONFIG
from shared.runtime.gc_tuning import freeze
from shared.runtime.logs import configure_logging, log_uncaught
from shared.settings import Environment
from shared.store.redis_client import check_access

logger = logging.getLogger(__name__)


def main() -> int:
    """Serve until a signal. Returns the exit status."""
    try:
        environment = Environment(os.environ)
        settings = ApiSettings.from_environment(environment)
        check_access({"BATON_REDIS_URL": settings.redis_url, "BATON_BROKER_URL": settings.broker_url})
        listening = _bind(settings.host, settings.port)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return EX_CONFIG
    name = f"{socket.gethostname()}:{settings.port}"
    configure_logging("api", name, level=settings.log_level, form=settings.log_format)
    log_uncaught()
    if environment.ignored:
        logger.warning("%s", environment.ignored)
    server = make_server(create_app(settings), settings)
    freeze()
    server.run(sockets=[listening])
    return 0


def make_server(app: FastAPI, settings: ApiSettings) -> Server:
    """uvicorn as Baton runs it. Its own access log would show query strings; ours is api/metrics/access_log.py."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=partial(Connection, receipt_s=settings.receipt_s),  # type: ignore[arg-type]  # uvicorn only calls it
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # A second safeguard: by then `Relay.stop` has ended all streams.
        timeout_graceful_shutdown=int(settings.drain_s) + 3,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_worth_logging)
    return Server(config, drain_s=settings.drain_s, stop=lambda: app.state.services.relay.stop())


def _is_worth_logging(record: logging.LogRecord) -> bool:
    # uvicorn reports each stream that is left incomplete. Baton ends streams that cannot continue in this way.
    return "without completing response" not in record.getMessage()


def _bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address. Raises SettingsError."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
        return listening
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(
                f"BATON_PORT {port} is taken: another process listens on {host}:{port}"
            ) from error
        raise SettingsError(f"BATON_HOST {host}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())

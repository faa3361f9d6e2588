"""`baton up`: runs all of Baton on this machine until Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from cli.errors import StartRefused
from cli.supervisor.setup.home import Home
from cli.supervisor.setup.prepare import prepare
from cli.supervisor.setup.settings import UpSettings
from shared import settings
from shared.errors import SettingsError
from shared.runtime.logs import configure_logging

logger = logging.getLogger(__name__)


def _flag(variable: settings.Variable[Any]) -> typer.models.OptionInfo:
    default = f" [{variable.default}]" if variable.default else ""
    option: typer.models.OptionInfo = typer.Option(
        help=f"{variable.doc}{default}", metavar=variable.name, show_default=False
    )
    return option


def up(
    host: Annotated[str | None, _flag(settings.HOST)] = None,
    port: Annotated[str | None, _flag(settings.PORT)] = None,
    flower_port: Annotated[str | None, _flag(settings.FLOWER_PORT)] = None,
    home: Annotated[str | None, _flag(settings.HOME)] = None,
    redis_url: Annotated[str | None, _flag(settings.REDIS_URL)] = None,
    broker_url: Annotated[str | None, _flag(settings.BROKER_URL)] = None,
    appendfsync: Annotated[str | None, _flag(settings.APPENDFSYNC)] = None,
    model: Annotated[str | None, _flag(settings.MODEL)] = None,
    model_name: Annotated[str | None, _flag(settings.MODEL_NAME)] = None,
    devices: Annotated[str | None, _flag(settings.DEVICES)] = None,
    dtype: Annotated[str | None, _flag(settings.DTYPE)] = None,
    quant: Annotated[str | None, _flag(settings.QUANT)] = None,
    native: Annotated[str | None, _flag(settings.NATIVE)] = None,
    speculation: Annotated[str | None, _flag(settings.SPECULATION)] = None,
    threads: Annotated[str | None, _flag(settings.THREADS)] = None,
    max_slots: Annotated[str | None, _flag(settings.MAX_SLOTS)] = None,
    max_model_len: Annotated[str | None, _flag(settings.MAX_MODEL_LEN)] = None,
    max_kv_tokens: Annotated[str | None, _flag(settings.MAX_KV_TOKENS)] = None,
    api_replicas: Annotated[str | None, _flag(settings.API_REPLICAS)] = None,
    api_keys: Annotated[str | None, _flag(settings.API_KEYS)] = None,
    log_level: Annotated[str | None, _flag(settings.LOG_LEVEL)] = None,
    log_format: Annotated[str | None, _flag(settings.LOG_FORMAT)] = None,
) -> None:
    """Start Redis, the API, the workers and Flower.

    Processes that die are started again. Ctrl-C stops all of them in order. Every flag can also be given as the
    environment variable that is shown; the flag takes precedence.
    """
    flags = {f"BATON_{name.upper()}": value for name, value in locals().items() if value is not None}
    ignored = settings.ignored_service_links(os.environ)
    environ = {**settings.without_service_links(os.environ), **flags}
    from cli.supervisor.run import run  # imports Celery, which other commands do not need

    try:
        up_settings = UpSettings.read(environ)
    except SettingsError as error:
        raise StartRefused(str(error)) from error
    directory = Home(up_settings.home)
    directory.make()
    with directory.locked() as lock, directory.own_log() as log:
        level, form = up_settings.log_level, up_settings.log_format
        configure_logging("supervisor", "baton-up", level=level, form=form, stream=log)
        if ignored:
            sys.stderr.write(f"baton: {ignored}\n")
            logger.warning("%s", ignored)
        prepared = prepare(up_settings, directory, environ)
        asyncio.run(run(prepared, directory, lock, Console()))

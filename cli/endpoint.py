"""Endpoint: where the API is and with which key, and the options of every client command that say so."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli.supervisor.home import Home
from cli.supervisor.settings import url_of
from cli.supervisor.state_file import StateFile
from shared import settings

UrlOption = Annotated[
    list[str] | None,
    typer.Option("--url", help="Base URL of the API; give several to go on elsewhere when one fails."),
]
KeyOption = Annotated[
    str | None, typer.Option("--api-key", help="Default: the first of BATON_API_KEYS, else OPENAI_API_KEY.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """At least one URL, without `/v1`."""

    urls: tuple[str, ...]
    api_key: str | None


def find_endpoint(
    urls: list[str] | None, api_key: str | None, environ: Mapping[str, str] = os.environ
) -> Endpoint:
    """What the options say, else the `baton up` of this home, else the default address."""
    found = [url.rstrip("/").removesuffix("/v1") for url in urls or []] or _urls_of_up(environ)
    host = environ.get(settings.HOST.name) or settings.HOST.default
    port = environ.get(settings.PORT.name) or settings.PORT.default
    keys = [key.strip() for key in environ.get(settings.API_KEYS.name, "").split(",") if key.strip()]
    return Endpoint(
        urls=tuple(found) or (url_of(host, int(port)),),
        api_key=api_key or (keys[0] if keys else environ.get("OPENAI_API_KEY")),
    )


def home_of(environ: Mapping[str, str] = os.environ) -> Home:
    """The home that this command line belongs to."""
    return Home(Path(environ.get(settings.HOME.name) or settings.HOME.default))


def _urls_of_up(environ: Mapping[str, str]) -> list[str]:
    home = home_of(environ)
    if not home.is_locked:
        return []
    return [child.url for child in StateFile(home.path).read() if child.role == "api" and child.url]

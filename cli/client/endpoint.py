"""Finds the API's URLs and the API key to use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from cli.errors import CommandError
from cli.exit_codes import ExitCode
from cli.supervisor.setup.home import Home
from cli.supervisor.setup.settings import url_of
from cli.supervisor.state_file import StateFile
from shared import settings


@dataclass(frozen=True, slots=True)
class Endpoint:
    """At least one URL, without `/v1`."""

    urls: tuple[str, ...]
    api_key: str | None


def find_endpoint(
    urls: list[str] | None, api_key: str | None, environ: Mapping[str, str] = os.environ
) -> Endpoint:
    """The options' URLs, or those of this home's running `baton up`, or the default address.

    Raises CommandError if a URL or the key is not valid, and SettingsError.
    """
    env = settings.Environment(environ)
    found = tuple(_base_url(url) for url in urls or []) or tuple(_urls_of_up(environ))
    keys = env.read(settings.API_KEYS)
    key = api_key or (keys[0] if keys else environ.get("OPENAI_API_KEY"))
    if key and not (key.isascii() and key.isprintable()):
        raise CommandError("the API key contains characters other than printable ASCII", ExitCode.USAGE)
    return Endpoint(
        urls=found or (url_of(env.read(settings.HOST), env.read(settings.PORT)),),
        api_key=key,
    )


def home_of(environ: Mapping[str, str] = os.environ) -> Home:
    """The home that this command line uses. Raises SettingsError."""
    return Home(settings.Environment(environ).read(settings.HOME))


def _base_url(text: str) -> str:
    """The URL without the `/v1` that OpenAI clients need. Raises CommandError."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise CommandError(f"--url {text}: {error}", ExitCode.USAGE) from error
    if url.scheme not in ("http", "https") or not url.host:
        message = f"--url {text} is not a URL; write it as http://127.0.0.1:8000"
        raise CommandError(message, ExitCode.USAGE)
    return text.rstrip("/").removesuffix("/v1")


def _urls_of_up(environ: Mapping[str, str]) -> list[str]:
    home = home_of(environ)
    if not home.is_locked:
        return []
    return [child.url for child in StateFile(home.path).read() if child.role == "api" and child.url]

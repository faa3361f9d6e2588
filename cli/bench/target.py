"""The servers to measure, as given by --target."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from cli.client.api_client import ApiClient
from cli.client.endpoint import Endpoint, find_endpoint
from cli.errors import CommandError
from cli.exit_codes import ExitCode
from shared import settings


@dataclass(frozen=True, slots=True)
class Target:
    """One server, and the model to request from it; None: its first model."""

    name: str
    #: The base URL for OpenAI clients, usually ending in `/v1`.
    base_url: str
    api_key: str | None
    model: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}


def find_targets(
    given: Sequence[str], model: str | None, environ: Mapping[str, str] = os.environ
) -> list[Target]:
    """The servers given by `--target`, or else the Baton of this home. Raises CommandError."""
    if not given:
        endpoint = find_endpoint(None, None, environ)
        return [Target("baton", f"{endpoint.urls[0]}/v1", endpoint.api_key, model)]
    targets = [_parse(text, model, environ) for text in given]
    if len({target.name for target in targets}) < len(targets):
        raise CommandError("two targets have the same name; give each --target its own", ExitCode.USAGE)
    return targets


def with_model(target: Target) -> Target:
    """The target with its model filled in. Raises CommandError if it cannot be reached or lists no model."""
    with ApiClient(Endpoint((target.base_url,), target.api_key)) as client:
        models = [] if target.model else client.call("GET", "/models")["data"]
    if not target.model and not models:
        raise CommandError(f"{target.name} lists no models; choose one with --model", ExitCode.USAGE)
    return Target(target.name, target.base_url, target.api_key, target.model or str(models[0]["id"]))


def _parse(text: str, model: str | None, environ: Mapping[str, str]) -> Target:
    """Parses `NAME=URL` or `NAME=URL#MODEL`. Raises CommandError."""
    name, _, url = text.partition("=")
    address, _, own_model = url.partition("#")
    parts = urlsplit(address)
    if not name or parts.scheme not in ("http", "https") or not parts.hostname:
        raise CommandError(f"--target {text}: expected NAME=URL or NAME=URL#MODEL", ExitCode.USAGE)
    base_url = address.rstrip("/") if parts.path.strip("/") else f"{parts.scheme}://{parts.netloc}/v1"
    return Target(name, base_url, _key(name, environ), own_model or model)


def _key(name: str, environ: Mapping[str, str]) -> str | None:
    variable = re.sub(r"\W", "_", name).upper() + "_API_KEY"
    own = environ.get(variable)
    if variable == "BATON_API_KEY":  # not a setting; Baton's is BATON_API_KEYS
        own = environ.get(settings.API_KEYS.name, "").split(",")[0].strip()
    return own or environ.get("OPENAI_API_KEY")

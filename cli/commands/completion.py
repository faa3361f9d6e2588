"""Shell completion of job ids and worker names. It proposes nothing if the API does not answer quickly."""

from __future__ import annotations

from typing import Any

import typer

from cli.client.api_client import ApiClient
from cli.client.endpoint import find_endpoint
from shared.errors import BatonError

#: The user is waiting for the Tab key to respond.
_TIMEOUT_S = 1.0

Proposals = list[tuple[str, str]]


def complete_job(context: typer.Context, incomplete: str) -> Proposals:
    """The newest jobs, with their status."""
    jobs = _listed(context, "/v1/jobs?limit=50")
    return [(job["id"], job["status"]) for job in jobs if job["id"].startswith(incomplete)]


def complete_worker(context: typer.Context, incomplete: str) -> Proposals:
    """The live workers by name, or by id if several share the name."""
    workers = _listed(context, "/v1/workers")
    names = [worker["name"] for worker in workers]
    proposed = [
        (worker["name"] if names.count(worker["name"]) == 1 else worker["id"], worker["host"])
        for worker in workers
    ]
    return [(word, note) for word, note in proposed if word.startswith(incomplete)]


def _listed(context: typer.Context, path: str) -> list[dict[str, Any]]:
    """Empty if there is no answer: a shell cannot show an error during completion."""
    try:
        endpoint = find_endpoint(context.params.get("url"), context.params.get("api_key"))
        with ApiClient(endpoint, read_timeout_s=_TIMEOUT_S, connect_timeout_s=_TIMEOUT_S) as client:
            listed: list[dict[str, Any]] = client.call("GET", path)["data"]
            return listed
    except BatonError:
        return []

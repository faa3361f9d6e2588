"""Completing: ids of jobs and workers for the shell, as far as the API answers at once."""

from __future__ import annotations

from typing import Any

import typer

from cli.client.api_client import ApiClient
from cli.client.endpoint import find_endpoint
from shared.errors import BatonError

#: Somebody waits for the Tab key.
_PATIENCE_S = 1.0

Proposals = list[tuple[str, str]]


def complete_job(context: typer.Context, incomplete: str) -> Proposals:
    """The newest jobs, with their status."""
    jobs = _listed(context, "/v1/jobs?limit=50")
    return [(job["id"], job["status"]) for job in jobs if job["id"].startswith(incomplete)]


def complete_worker(context: typer.Context, incomplete: str) -> Proposals:
    """The living workers by name, and by id where several have the name."""
    workers = _listed(context, "/v1/workers")
    names = [worker["name"] for worker in workers]
    proposed = [
        (worker["name"] if names.count(worker["name"]) == 1 else worker["id"], worker["host"])
        for worker in workers
    ]
    return [(word, note) for word, note in proposed if word.startswith(incomplete)]


def _listed(context: typer.Context, path: str) -> list[dict[str, Any]]:
    """Nothing, where there is no answer: a shell has no place for an error."""
    try:
        endpoint = find_endpoint(context.params.get("url"), context.params.get("api_key"))
        with ApiClient(endpoint, read_timeout_s=_PATIENCE_S, connect_timeout_s=_PATIENCE_S) as client:
            listed: list[dict[str, Any]] = client.call("GET", path)["data"]
            return listed
    except BatonError:
        return []

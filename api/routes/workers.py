"""/v1/workers: who generates, and how one of them is told to leave."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from api.dependencies import Owner, ServicesDep, read_nothing
from shared.domain.lease import find_by_name
from shared.errors import RequestError, invalid_request

router = APIRouter()


@router.get("/v1/workers")
async def list_workers(_: Owner, services: ServicesDep) -> dict[str, Any]:
    """Every living worker."""
    return {"object": "list", "data": [worker.to_json() for worker in await services.store.workers()]}


@router.post("/v1/workers/{worker_id}/drain")
async def drain_worker(request: Request, worker_id: str, _: Owner, services: ServicesDep) -> JSONResponse:
    """Have a worker stop claiming, hand its jobs on and end: 202. Called again: the same answer while it
    lives."""
    await read_nothing(request)
    found = find_by_name(await services.store.workers(), worker_id)
    if not found:
        raise _unknown(worker_id)
    if len(found) > 1:
        raise invalid_request(
            f"{len(found)} workers are called '{worker_id[:200]}': give the id of one of them.",
            code="worker_ambiguous",
            status=409,
        )
    if not await services.store.drain(found[0].worker_instance):
        raise _unknown(worker_id)
    return JSONResponse({**found[0].to_json(), "status": "draining"}, 202)


def _unknown(worker_id: str) -> RequestError:
    return invalid_request(
        f"No living worker is called '{worker_id[:200]}'.", code="worker_not_found", status=404
    )

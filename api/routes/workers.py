"""/v1/workers: which workers live, and draining one."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from api.dependencies import PrincipalDep, ServicesDep, known_query, read_nothing
from shared.domain.lease import find_by_name
from shared.errors import RequestError, invalid_request

router = APIRouter(dependencies=[known_query()])


@router.get("/v1/workers")
async def list_workers(_: PrincipalDep, services: ServicesDep) -> dict[str, Any]:
    """Every living worker."""
    return {"object": "list", "data": [worker.to_json() for worker in await services.store.workers()]}


@router.post("/v1/workers/{worker_id}/drain")
async def drain_worker(
    request: Request, worker_id: str, principal: PrincipalDep, services: ServicesDep
) -> JSONResponse:
    """Have a worker stop claiming, hand its jobs to others and end: 202. Repeated, it has the same response while the
    worker lives."""
    principal.require("admin", "Draining a worker")
    await read_nothing(request)
    found = find_by_name(await services.store.workers(), worker_id)
    if not found:
        raise _unknown(worker_id)
    if len(found) > 1:
        raise invalid_request(
            f"{len(found)} workers have the name '{worker_id[:200]}'. Use the id of one of them.",
            code="worker_ambiguous",
            status=409,
        )
    if not await services.store.drain(found[0].worker_instance):
        raise _unknown(worker_id)
    return JSONResponse({**found[0].to_json(), "status": "draining"}, 202)


def _unknown(worker_id: str) -> RequestError:
    return invalid_request(
        f"No living worker has the name or id '{worker_id[:200]}'.", code="worker_not_found", status=404
    )

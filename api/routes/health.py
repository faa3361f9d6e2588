"""/health: whether this process runs, and whether requests would be answered. It needs no key."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from api.dependencies import ServicesDep
from api.errors import RETRY_AFTER_S
from api.lifespan import Services
from shared.cluster.wake_up_sender import WakeUpSender
from shared.errors import BrokerUnavailable, ErrorInfo, StoreUnavailable

router = APIRouter()


# Probes and load balancers use HEAD too.
@router.head("/health/live", include_in_schema=False)
@router.get("/health/live")
async def live() -> dict[str, str]:
    """This process responds."""
    return {"status": "ok"}


@router.head("/health", include_in_schema=False)
@router.head("/health/ready", include_in_schema=False)
@router.get("/health")
@router.get("/health/ready")
async def ready(services: ServicesDep) -> Response:
    """Redis responds, Celery's broker does, and a worker serves the configured model; otherwise 503, which names what
    is missing."""
    checks = await _checks(services)
    missing = [part for part, is_there in checks.items() if not is_there]
    if not missing:
        return JSONResponse({"status": "ok", "checks": checks})
    error = ErrorInfo(f"Not ready: no {' and no '.join(missing)}.", code="not_ready", status=503)
    body = {"error": error.to_json(), "status": "unavailable", "missing": missing, "checks": checks}
    return JSONResponse(body, 503, {"retry-after": str(RETRY_AFTER_S)})


async def _checks(services: Services) -> dict[str, bool]:
    pinging = asyncio.create_task(_is_up(services.sender))
    try:
        redis, worker = True, await services.models.is_served(services.models.configured)
    except StoreUnavailable:
        redis, worker = False, False
    return {"redis": redis, "broker": await pinging, "worker": worker}


async def _is_up(broker: WakeUpSender) -> bool:
    try:
        await broker.ping()
    except BrokerUnavailable:
        return False
    return True

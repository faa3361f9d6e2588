"""/metrics: for Prometheus. Open, without a key: it tells amounts, never content."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.deps import MetricsDep, ServicesDep
from api.families import census_families, replica_families
from shared.errors import StoreUnavailable

router = APIRouter()


@router.get("/metrics")
async def get_metrics(services: ServicesDep, metrics: MetricsDep) -> Response:
    """This replica's own, and what the store knows of queues and of all workers."""
    try:
        census = await services.census.take()
    except StoreUnavailable:
        census = None
    own = replica_families(services.relay.num_followers, services.reaper.acts, is_redis_up=census is not None)
    shared = [] if census is None else census_families(census)
    return Response(metrics.render([*own, *shared]), media_type="text/plain; version=0.0.4")

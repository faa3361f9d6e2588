"""/metrics: for Prometheus. Open, without a key: it tells amounts, never content."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.deps import MetricsDep, ServicesDep
from api.metrics import process_gauges, store_gauges
from shared.errors import StoreUnavailable

router = APIRouter()


@router.get("/metrics")
async def get_metrics(services: ServicesDep, metrics: MetricsDep) -> Response:
    """This replica's counters, and what the store knows of queues and workers."""
    followers = services.relay.num_followers
    try:
        depths = {model: await services.store.num_queued(model) for model in await services.models.all()}
        gauges = store_gauges(depths, await services.store.workers())
        text = metrics.render([*process_gauges(followers, is_redis_up=True), *gauges])
    except StoreUnavailable:
        text = metrics.render(process_gauges(followers, is_redis_up=False))
    return Response(text, media_type="text/plain; version=0.0.4")

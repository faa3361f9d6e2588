"""/metrics: for Prometheus. By default it needs no key: it shows numbers, never content."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.dependencies import METRICS, MetricsDep, ServicesDep
from api.metrics.collectors import cluster_collectors, replica_collectors
from shared.errors import StoreUnavailable

router = APIRouter()


@router.get("/metrics", dependencies=[METRICS])
async def get_metrics(services: ServicesDep, metrics: MetricsDep) -> Response:
    """Metrics of this replica, of queues and of all workers."""
    try:
        cluster_stats = await services.cluster_stats.take()
    except StoreUnavailable:
        cluster_stats = None
    own = replica_collectors(
        services.relay.num_subscriptions, services.reaper.acts, is_redis_up=cluster_stats is not None
    )
    shared = [] if cluster_stats is None else cluster_collectors(cluster_stats)
    return Response(metrics.render([*own, *shared]), media_type="text/plain; version=0.0.4")

"""Services: the collaborators of one replica's routes, open while the app runs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from api.jobs.dispatcher import Dispatcher
from api.jobs.models import Models
from api.jobs.position_feed import PositionFeed
from api.jobs.wait_estimator import WaitEstimator
from api.jobs.withdrawals import Withdrawals
from api.metrics.registry import Metrics
from api.settings import ApiSettings
from api.streaming.lag_probe import LagProbe
from api.streaming.pubsub_reader import PubSubReader
from api.streaming.readership import Readership
from api.streaming.relay import Relay
from shared.cluster.celery_app import make_celery
from shared.cluster.cluster_stats import ClusterStatsCache
from shared.cluster.reaper import Reaper
from shared.cluster.wake_up_sender import WakeUpSender
from shared.runtime.cancellation import cancel_and_wait
from shared.store.job_store import JobStore, Limits
from shared.store.redis_client import connect

logger = logging.getLogger(__name__)

#: So that clients get an error within two seconds while Redis is down.
REDIS_TIMEOUT_S = 1.6
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Services:
    """The collaborators of the routes."""

    store: JobStore
    sender: WakeUpSender
    relay: Relay
    dispatcher: Dispatcher
    withdrawals: Withdrawals
    models: Models
    reaper: Reaper
    cluster_stats: ClusterStatsCache
    wait_estimator: WaitEstimator
    position_feed: PositionFeed
    readership: Readership


OpenServices = Callable[[ApiSettings, Metrics], AbstractAsyncContextManager[Services]]


@asynccontextmanager
async def open_services(settings: ApiSettings, metrics: Metrics) -> AsyncIterator[Services]:
    """Connect to Redis, which may still be down, and run the relay and the reaper."""
    async with AsyncExitStack() as stack:
        redis = connect(settings.redis_url, timeout_s=REDIS_TIMEOUT_S)
        stack.push_async_callback(redis.aclose)
        broker = connect(settings.broker_url, timeout_s=REDIS_TIMEOUT_S)
        stack.push_async_callback(broker.aclose)
        celery = make_celery(settings.broker_url)
        stack.callback(celery.close)
        sender = WakeUpSender(celery, broker)
        stack.callback(sender.close)
        store = JobStore(redis)
        probe = LagProbe(redis, metrics.relayed)
        readership = Readership(store, sender)
        relay = Relay(store, PubSubReader(redis, readership.replica, probe), readership)
        withdrawals = Withdrawals(store)
        limits = Limits(settings.max_open_jobs, settings.max_owner_mb * _MIB, settings.max_stored_mb * _MIB)
        dispatcher = Dispatcher(store, sender, relay, withdrawals, limits=limits)
        wait_estimator = WaitEstimator(store)
        position_feed = PositionFeed(wait_estimator)
        reaper = Reaper(store, sender, lease_s=settings.lease_s)
        await stack.enter_async_context(
            _running(
                *(relay.listen, relay.look_after, readership.run, reaper.run),
                *(probe.run, position_feed.run, withdrawals.run),
            )
        )
        models = Models(store, settings.model)
        cluster_stats = ClusterStatsCache(redis, store, models.all)
        yield Services(
            store,
            sender,
            relay,
            dispatcher,
            withdrawals,
            models,
            reaper,
            cluster_stats,
            wait_estimator,
            position_feed,
            readership,
        )


@asynccontextmanager
async def _running(*duties: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run duties that never end. A duty that fails is a bug: it is logged and restarted."""
    tasks = [asyncio.create_task(_forever(duty)) for duty in duties]
    try:
        yield
    finally:
        await cancel_and_wait(tasks)


async def _forever(duty: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await duty()
        except Exception:
            logger.exception("a duty failed")
        await asyncio.sleep(1)

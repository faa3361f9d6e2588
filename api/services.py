"""Services: what the routes of one replica work with, opened for the app's life."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from api.dispatcher import Dispatcher
from api.forecast import Forecast
from api.lag_probe import LagProbe
from api.listener import Listener
from api.metrics import Metrics
from api.models import Models
from api.queue_watch import QueueWatch
from api.relay import Relay
from api.settings import ApiSettings
from shared.celery_app import make_celery
from shared.census import CensusTaker
from shared.ending import end
from shared.job_store import JobStore
from shared.reaper import Reaper
from shared.redis_client import connect
from shared.ringer import Ringer

logger = logging.getLogger(__name__)

#: Within two seconds a client knows that Redis is down.
REDIS_TIMEOUT_S = 1.6


@dataclass(frozen=True, slots=True)
class Services:
    """The collaborators of the routes."""

    store: JobStore
    relay: Relay
    dispatcher: Dispatcher
    models: Models
    reaper: Reaper
    census: CensusTaker
    forecast: Forecast
    queue_watch: QueueWatch


OpenServices = Callable[[ApiSettings, Metrics], AbstractAsyncContextManager[Services]]


@asynccontextmanager
async def open_services(settings: ApiSettings, metrics: Metrics) -> AsyncIterator[Services]:
    """Connect to Redis and run the relay and the reaper. Redis need not be there yet."""
    async with AsyncExitStack() as stack:
        redis = connect(settings.redis_url, timeout_s=REDIS_TIMEOUT_S)
        stack.push_async_callback(redis.aclose)
        broker = connect(settings.broker_url, timeout_s=REDIS_TIMEOUT_S)
        stack.push_async_callback(broker.aclose)
        celery = make_celery(settings.broker_url)
        stack.callback(celery.close)
        ringer = Ringer(celery, broker)
        stack.callback(ringer.close)
        store = JobStore(redis)
        probe = LagProbe(redis, metrics.relayed)
        relay = Relay(store, Listener(redis, probe), grace_s=settings.reader_grace_s)
        dispatcher = Dispatcher(store, ringer, relay, max_open_jobs=settings.max_open_jobs)
        forecast = Forecast(store)
        queue_watch = QueueWatch(forecast)
        reaper = Reaper(store, ringer, lease_s=settings.lease_s)
        await stack.enter_async_context(
            _running(relay.listen, relay.look_after, reaper.run, probe.run, queue_watch.run)
        )
        models = Models(store, settings.model)
        census = CensusTaker(redis, store, models.all)
        yield Services(store, relay, dispatcher, models, reaper, census, forecast, queue_watch)


@asynccontextmanager
async def _running(*duties: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run duties that never end. One that fails is a fault of ours: it is logged and begins anew."""
    tasks = [asyncio.create_task(_forever(duty)) for duty in duties]
    try:
        yield
    finally:
        await end(tasks)


async def _forever(duty: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await duty()
        except Exception:
            logger.exception("a duty failed")
        await asyncio.sleep(1)

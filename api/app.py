"""create_app: puts one replica's app together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from api.errors import install_error_handlers
from api.http.access_log import AccessLogMiddleware
from api.http.auth import Keys
from api.http.body_limit import BodyLimitMiddleware
from api.http.request_context import RequestContextMiddleware
from api.http.stream_limiter import StreamLimiter
from api.lifespan import OpenServices, open_services
from api.metrics.registry import Metrics
from api.routes import chat, health, job_events, jobs, metrics, models, workers
from api.settings import ApiSettings


def create_app(settings: ApiSettings, services: OpenServices = open_services) -> FastAPI:
    """The ASGI app. What it works with is opened for its lifespan by `services`."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with services(settings, app.state.metrics) as opened:
            app.state.services = opened
            yield

    app = FastAPI(title="Baton", version="0.1.0", lifespan=lifespan, redoc_url=None, redirect_slashes=False)
    app.state.settings = settings
    app.state.keys = Keys(settings.api_keys)
    app.state.readers = StreamLimiter(settings.max_readers)
    app.state.metrics = Metrics()
    install_error_handlers(app)
    for resource in (chat, jobs, job_events, models, workers, health, metrics):
        app.include_router(resource.router)
    # The last one added is the outermost.
    app.add_middleware(BodyLimitMiddleware, limit=settings.body_limit, receipt_s=settings.receipt_s)
    app.add_middleware(RequestContextMiddleware)
    app.add_middleware(AccessLogMiddleware, metrics=app.state.metrics)
    return app

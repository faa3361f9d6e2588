"""create_app: puts one replica's app together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from api.access import Access
from api.auth import Keys
from api.boundary import Boundary
from api.errors import install_error_handlers
from api.limits import BodyLimit
from api.metrics import Metrics
from api.readers import Readers
from api.routes import chat, health, job_events, jobs, metrics, models, workers
from api.services import OpenServices, open_services
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
    app.state.readers = Readers(settings.max_readers)
    app.state.metrics = Metrics()
    install_error_handlers(app)
    for resource in (chat, jobs, job_events, models, workers, health, metrics):
        app.include_router(resource.router)
    # The last one added is the outermost.
    app.add_middleware(BodyLimit, limit=settings.body_limit, receipt_s=settings.receipt_s)
    app.add_middleware(Boundary)
    app.add_middleware(Access, metrics=app.state.metrics)
    return app

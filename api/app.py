"""create_app: assembles one replica's app."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata

from fastapi import FastAPI

from api.dialects.openai_chat.dialect import OpenAIChat
from api.dialects.openai_completions.dialect import OpenAICompletions
from api.dialects.registry import Dialects
from api.errors import install_error_handlers
from api.http.auth import Keys
from api.http.body_limit import BodyLimitMiddleware
from api.http.origins import Origins, add_cors
from api.http.request_context import RequestContextMiddleware
from api.http.stream_limiter import StreamLimiter
from api.lifespan import OpenServices, open_services
from api.metrics.access_log import AccessLogMiddleware
from api.metrics.registry import Metrics
from api.routes import chat, completions, health, job_events, jobs, metrics, models, tokenization, workers
from api.settings import ApiSettings

#: The dialects of the API.
DIALECTS = Dialects([OpenAIChat(), OpenAICompletions()])


def create_app(
    settings: ApiSettings, services: OpenServices = open_services, dialects: Dialects = DIALECTS
) -> FastAPI:
    """The ASGI app. `services` opens what it works with, for its lifespan."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with services(settings, app.state.metrics) as opened:
            app.state.services = opened
            yield

    has_docs = "docs" in settings.public_pages
    app = FastAPI(
        title="Baton",
        version=metadata.version("baton"),
        lifespan=lifespan,
        openapi_url="/openapi.json" if has_docs else None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.settings = settings
    app.state.dialects = dialects
    app.state.keys = Keys(settings.api_keys, settings.admin_keys)
    app.state.origins = Origins(settings.cors_origins)
    app.state.readers = StreamLimiter(settings.max_readers)
    app.state.metrics = Metrics()
    install_error_handlers(app)
    for resource in (chat, completions, jobs, job_events, models, tokenization, workers, health, metrics):
        app.include_router(resource.router)
    # The last one added is the outermost.
    app.add_middleware(BodyLimitMiddleware, limit=settings.body_limit, receipt_s=settings.receipt_s)
    app.add_middleware(RequestContextMiddleware)
    add_cors(app, app.state.origins)
    app.add_middleware(AccessLogMiddleware, metrics=app.state.metrics)
    return app

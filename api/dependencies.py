"""Dependencies of the routes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Annotated, Any, cast

from fastapi import Depends, Request

from api.answers.exchange import Exchange
from api.dialects.registry import Dialects
from api.http import query
from api.http.auth import Keys, Principal
from api.http.origins import Origins, check_loopback_host
from api.http.stream_limiter import StreamLimiter
from api.http.strict_json import parse_object
from api.http.validation import Schema, validate
from api.lifespan import Services
from api.metrics.registry import Metrics
from api.settings import ApiSettings
from shared.errors import invalid_request


# Coroutines, as FastAPI calls plain functions in a thread.
async def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


async def _metrics(request: Request) -> Metrics:
    return cast(Metrics, request.app.state.metrics)


async def _principal(request: Request) -> Principal:
    keys, headers = cast(Keys, request.app.state.keys), request.headers
    if keys.is_open:
        check_loopback_host(headers.getlist("host"))
        origins = cast(Origins, request.app.state.origins)
        origins.check(request.method, headers.get("sec-fetch-site"), headers.get("origin"))
    return keys.principal(headers.getlist("authorization"))


ServicesDep = Annotated[Services, Depends(_services)]
MetricsDep = Annotated[Metrics, Depends(_metrics)]
PrincipalDep = Annotated[Principal, Depends(_principal)]


async def _exchange(
    request: Request, principal: PrincipalDep, services: ServicesDep, metrics: MetricsDep
) -> Exchange:
    return Exchange(
        request,
        principal,
        services,
        cast(ApiSettings, request.app.state.settings),
        metrics,
        cast(Dialects, request.app.state.dialects),
    )


ExchangeDep = Annotated[Exchange, Depends(_exchange)]


async def _require_metrics(request: Request) -> None:
    if "metrics" not in cast(ApiSettings, request.app.state.settings).public_pages:
        (await _principal(request)).require("metrics", "Reading metrics")


#: For /metrics: open, or for those with the scope.
METRICS = Depends(_require_metrics)


async def _readers(request: Request) -> StreamLimiter:
    return cast(StreamLimiter, request.app.state.readers)


StreamLimiterDep = Annotated[StreamLimiter, Depends(_readers)]


async def _admit_reader(readers: StreamLimiterDep, principal: PrincipalDep) -> AsyncIterator[None]:
    with readers.admitted(principal.id):
        yield


#: For routes whose answer takes its time: the caller counts as a reader until it was sent.
READS = Depends(_admit_reader)


def known_query(*names: str) -> Any:
    """For routes with these query parameters: refuses all others."""

    async def check(request: Request) -> None:
        query.refuse_unknown(request.query_params, names)

    checked: Callable[[Request], Coroutine[Any, Any, None]] = check
    return Depends(checked)


async def read_json(request: Request) -> dict[str, Any]:
    """The request's body as a JSON object. Raises RequestError (400, 413, 415)."""
    content_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise invalid_request("The content type must be application/json.", status=415)
    if any(encoding.lower() != "identity" for encoding in request.headers.getlist("content-encoding")):
        raise invalid_request("Encoded bodies are not accepted.", status=415)
    return parse_object(await request.body())


async def read_nothing(request: Request) -> None:
    """For requests without parameters: a body, if there is one, must be `{}`. Raises RequestError."""
    if await request.body():
        validate(_Nothing, await read_json(request))


class _Nothing(Schema):
    pass

"""Dependencies of the routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, cast

from fastapi import Depends, Request

from api.errors import StreamExpired
from api.http.auth import Keys, refuse_cross_site
from api.http.stream_limiter import StreamLimiter
from api.http.strict_json import parse_object
from api.http.validation import Schema, validate
from api.lifespan import Services
from api.metrics.registry import Metrics
from api.settings import ApiSettings
from shared.domain.job import Job, is_job_id
from shared.errors import RequestError, invalid_request


# Coroutines, as FastAPI calls plain functions in a thread.
async def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


async def _settings(request: Request) -> ApiSettings:
    return cast(ApiSettings, request.app.state.settings)


async def _metrics(request: Request) -> Metrics:
    return cast(Metrics, request.app.state.metrics)


async def _owner(request: Request) -> str:
    keys = cast(Keys, request.app.state.keys)
    if keys.is_open:
        refuse_cross_site(request.method, request.headers.get("sec-fetch-site"))
    return keys.owner(request.headers.get("authorization"))


ServicesDep = Annotated[Services, Depends(_services)]
SettingsDep = Annotated[ApiSettings, Depends(_settings)]
MetricsDep = Annotated[Metrics, Depends(_metrics)]
Owner = Annotated[str, Depends(_owner)]


async def _readers(request: Request) -> StreamLimiter:
    return cast(StreamLimiter, request.app.state.readers)


StreamLimiterDep = Annotated[StreamLimiter, Depends(_readers)]


async def _admit_reader(readers: StreamLimiterDep, owner: Owner) -> AsyncIterator[None]:
    with readers.admitted(owner):
        yield


#: Of a route whose answer takes its time: counts as a reader of its owner until it was sent.
READS = Depends(_admit_reader)


async def read_json(request: Request) -> dict[str, Any]:
    """The request's body as a JSON object. Raises RequestError (400, 413, 415)."""
    content_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise invalid_request("The content type must be application/json.", status=415)
    if any(encoding.lower() != "identity" for encoding in request.headers.getlist("content-encoding")):
        raise invalid_request("Encoded bodies are not accepted.", status=415)
    return parse_object(await request.body())


async def read_nothing(request: Request) -> None:
    """For requests that have no parameters: a body, if there is one, is `{}`. Raises RequestError."""
    if await request.body():
        validate(_Nothing, await read_json(request))


class _Nothing(Schema):
    pass


def name_job(request: Request, job_id: str) -> None:
    """Let the answer carry `x-job-id`."""
    request.state.job_id = job_id


async def find_job(request: Request, services: Services, owner: str, job_id: str) -> Job:
    """The owner's job. Raises RequestError: 404 for an unknown or foreign one, 410 for one whose events
    are gone."""
    if not is_job_id(job_id):
        raise unknown_job(job_id)
    job = await services.store.get(job_id)
    if job is None and await services.store.owner(job_id) == owner:
        raise StreamExpired(job_id)
    if job is None or job.owner != owner:
        raise unknown_job(job_id)
    name_job(request, job_id)
    return job


def unknown_job(job_id: str) -> RequestError:
    """404, the same for an unknown id and for a foreign one."""
    return invalid_request(f"No job with id '{job_id[:64]}' found.", code="job_not_found", status=404)

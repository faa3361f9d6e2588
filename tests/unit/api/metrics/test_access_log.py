"""One line about each request: its route's template, its end, its job, and nothing that it carried."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from api.errors import install_error_handlers
from api.http.request_context import RequestContextMiddleware
from api.metrics.access_log import AccessLogMiddleware
from api.metrics.registry import Metrics
from shared.errors import invalid_request

SECRET = "zebra-crossing-47"


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/things/{thing}")
    async def get_thing(request: Request, thing: str) -> Response:
        if thing == "bad":
            raise invalid_request(f"not {SECRET}", code="no_such_thing")
        if thing == "worse":
            raise ValueError(SECRET)
        request.state.job_id = "job_1"
        return StreamingResponse(iter([b"a", b"b"]), media_type="text/event-stream")

    app.add_middleware(RequestContextMiddleware)
    app.add_middleware(AccessLogMiddleware, metrics=Metrics())
    return app


async def ask(app: FastAPI, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        return await http.get(path)


def access_lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    records = [record for record in caplog.records if record.name == "api.metrics.access_log"]
    return [(record.getMessage(), dict(getattr(record, "fields", {}))) for record in records]


async def test_a_request_is_one_line(app: FastAPI, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    await ask(app, f"/things/{SECRET}?ticket={SECRET}")
    await ask(app, "/things/bad")
    await ask(app, f"/{SECRET}")
    lines = access_lines(caplog)
    for _, fields in lines:
        assert fields.pop("duration_s") >= 0
    route = {"method": "GET", "route": "/things/{thing}", "complete": True}
    assert lines == [
        ("GET /things/{thing} 200", {**route, "status": 200, "job_id": "job_1"}),
        ("GET /things/{thing} 400", {**route, "status": 400, "error_code": "no_such_thing"}),
        ("GET none 404", {**route, "route": "none", "status": 404, "error_code": "invalid_request_error"}),
    ]


async def test_a_failure_of_ours_is_told_without_its_text(
    app: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    response = await ask(app, "/things/worse")
    assert response.status_code == 500 and SECRET not in response.text
    ((message, fields),) = access_lines(caplog)
    assert (message, fields["error_code"]) == ("GET /things/{thing} 500", "internal_error")

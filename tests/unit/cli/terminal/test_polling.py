from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from cli.client.api_client import ApiClient, ApiError
from cli.client.endpoint import Endpoint
from cli.exit_codes import ExitCode
from cli.terminal import polling as module
from cli.terminal.polling import poll_job

JOB = "job_" + "a" * 24
Handler = Callable[[httpx.Request], httpx.Response]


def refused(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def page(cursor: str, *events: str, done: bool = False) -> Handler:
    items = [{"event": f"job.{name}", "id": f"{cursor}-{name}", "data": {}} for name in events]
    return lambda _: httpx.Response(200, json={"events": items, "cursor": cursor, "done": done})


class Servers:
    """Two replicas that take turns in returning the responses of one list."""

    def __init__(self, *answers: Handler) -> None:
        self._answers = iter(answers)
        self.asked: list[tuple[str, str | None]] = []
        endpoint = Endpoint(("http://one", "http://two"), None)
        self.client = ApiClient(endpoint, httpx.MockTransport(self._handle))

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.url.host, request.url.params.get("after")))
        assert (
            request.headers["accept"] == "application/json" and request.url.path == f"/v1/jobs/{JOB}/events"
        )
        return next(self._answers)(request)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.0)


def test_each_request_goes_on_where_the_last_one_ended(capsys: pytest.CaptureFixture[str]) -> None:
    unwell: Handler = lambda _: httpx.Response(503, json={"error": {"message": "not now"}})  # noqa: E731
    servers = Servers(
        page("1", "queued", "started"), page("1"), unwell, refused, page("2", "failed", done=True)
    )  # fmt: skip
    assert poll_job(servers.client, JOB, as_json=True) is ExitCode.FAILED
    assert servers.asked == [("one", None), ("one", "1"), ("one", "1"), ("two", "1"), ("one", "1")]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split('"')[3] for line in lines] == ["job.queued", "job.started", "job.failed"]


def test_a_cursor_is_where_it_begins() -> None:
    servers = Servers(page("9", "completed", done=True))
    assert poll_job(servers.client, JOB, as_json=True, cursor="8") is ExitCode.OK
    assert servers.asked == [("one", "8")]


def test_what_cannot_begin_is_an_error_at_once() -> None:
    servers = Servers(lambda _: httpx.Response(503, json={"error": {"message": "not now"}}))
    with pytest.raises(ApiError, match="not now"):
        poll_job(servers.client, JOB, as_json=False)


def test_a_page_of_something_else_is_no_api(capsys: pytest.CaptureFixture[str]) -> None:
    servers = Servers(lambda _: httpx.Response(200, text="<html>"))
    with pytest.raises(ApiError, match=r"http://one.* did not return JSON; is this Baton's API"):
        poll_job(servers.client, JOB, as_json=False)
    assert capsys.readouterr().out == ""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from cli.client import stream_reader as module
from cli.client.api_client import ApiClient, ApiError, ConnectionLost, Unreachable
from cli.client.endpoint import Endpoint
from cli.client.stream_reader import StreamReader, chat_request, job_request
from cli.errors import CommandError

JOB = "job_" + "a" * 24
Handler = Callable[[httpx.Request], httpx.Response]


class Broken(httpx.SyncByteStream):
    """A body that ends when its connection breaks."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        raise httpx.RemoteProtocolError("peer closed connection")


def refused(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def answer(*pieces: bytes, status: int = 200, is_whole: bool = False) -> Handler:
    stream = httpx.ByteStream(b"".join(pieces)) if is_whole else Broken(*pieces)
    return lambda _: httpx.Response(status, stream=stream, headers={"x-job-id": JOB})


def error(status: int) -> Handler:
    return lambda _: httpx.Response(status, json={"error": {"message": f"status {status}"}})


class Servers:
    """Two replicas that take turns in returning the responses of one list."""

    def __init__(self, *answers: Handler) -> None:
        self._answers = iter(answers)
        self.requests: list[httpx.Request] = []
        endpoint = Endpoint(("http://one", "http://two"), "key")
        self.client = ApiClient(endpoint, httpx.MockTransport(self._handle))

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return next(self._answers)(request)

    @property
    def asked(self) -> list[tuple[str, str, str]]:
        return [(r.method, str(r.url), r.headers.get("last-event-id", "")) for r in self.requests]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_WAIT_S", 0.0)


def read(servers: Servers, cuts: list[CommandError] | None = None, *, patience_s: float = 60.0) -> list[str]:
    reader = StreamReader(servers.client, chat_request({"model": "m"}), patience_s=patience_s)
    return [event.data for event in reader.events((cuts if cuts is not None else []).append)]


def test_a_cut_stream_goes_on_at_the_next_url_behind_its_last_whole_event() -> None:
    servers = Servers(
        answer(b"id: 1\ndata: a\n\n", b"id: 2\ndata: b"),
        answer(b"id: 2\ndata: b\n\n: ping\n", is_whole=True),
        refused,
        answer(b"id: 3\ndata: c\n\n"),
        answer(status=204, is_whole=True),
    )
    assert read(servers) == ["a", "b", "c"]
    events = f"/v1/chat/completions/chatcmpl-{JOB[4:]}/events"
    assert servers.asked == [
        ("POST", "http://one/v1/chat/completions", ""),
        ("GET", f"http://two{events}", "1"),
        ("GET", f"http://one{events}", "2"),
        ("GET", f"http://two{events}", "2"),
        ("GET", f"http://one{events}", "3"),
    ]
    assert servers.requests[0].headers["authorization"] == "Bearer key"


def test_why_a_stream_was_cut_is_told() -> None:
    cuts: list[CommandError] = []
    servers = Servers(answer(b""), error(503), answer(status=204, is_whole=True))
    assert read(servers, cuts) == []
    assert [(type(cut), str(cut)) for cut in cuts] == [
        (ConnectionLost, "peer closed connection"),
        (ApiError, "status 503"),
    ]


def test_what_cannot_begin_is_an_error_at_once() -> None:
    with pytest.raises(Unreachable):
        read(Servers(refused, refused))
    with pytest.raises(ApiError):
        read(Servers(error(503)))


def test_a_job_that_is_gone_is_an_error_at_once() -> None:
    with pytest.raises(ApiError) as caught:
        read(Servers(answer(b""), error(410)))
    assert caught.value.status == 410


def test_patience_ends() -> None:
    servers = Servers(answer(b"id: 1\ndata: a\n\n"), refused, refused, refused, refused)
    with pytest.raises(Unreachable):
        read(servers, patience_s=0)
    assert len(servers.asked) == 3


def test_a_job_is_read_from_its_events() -> None:
    servers = Servers(answer(b"id: 1\nevent: job.queued\ndata: {}\n\n"), answer(status=204, is_whole=True))
    reader = StreamReader(servers.client, job_request(JOB))
    assert [event.event for event in reader.events(lambda _: None)] == ["job.queued"]
    assert servers.asked == [
        ("GET", f"http://one/v1/jobs/{JOB}/events", ""),
        ("GET", f"http://two/v1/jobs/{JOB}/events", "1"),
    ]

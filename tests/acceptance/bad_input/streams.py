"""Part F: event ids that are none, old protocols, and too many readers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from shared.store import keys
from tests.acceptance.bad_input.case import Case, Refused
from tests.acceptance.bad_input.site import CHAT, JOBS, MAX_READERS, Site, chat, read_reply, request

_PARAM = "Last-Event-ID"


def _paths(job_id: str) -> list[tuple[str, str]]:
    """Every route that takes an event id, and the name of the query parameter that may carry it."""
    completion_id = job_id.replace("job_", "chatcmpl-")
    return [(f"{JOBS}/{job_id}/events", "after"), (f"{CHAT}/{completion_id}/events", "starting_after")]


def _event_id(name: str, text: str, *, in_query: str | None = None) -> Case:
    def act(site: Site) -> Iterable[Refused]:
        for path, param in _paths(site.finished()[0]):
            for reply in (
                site.request("GET", path, last_event_id=text),
                site.request("GET", f"{path}?{param}={in_query or text}"),
            ):
                yield Refused(reply, 400, "invalid_event_id", _PARAM)

    return Case(name, act)


def _of_another_job(site: Site) -> Iterable[Refused]:
    _, event_id = site.finished()
    for path, _ in _paths(site.finished()[0]):
        reply = site.request("GET", path, last_event_id=event_id)
        yield Refused(reply, 400, "invalid_event_id", _PARAM)


def _ahead(site: Site) -> Iterable[Refused]:
    """At its end: nothing is left. Beyond it: there is no such place."""
    job_id, event_id = site.finished()
    for path, _ in _paths(job_id):
        assert site.request("GET", path, last_event_id=event_id).status == 204
        beyond = event_id.replace(".4f", ".5b").replace(".x.", ".o.")
        assert beyond != event_id
        yield Refused(site.request("GET", path, last_event_id=beyond), 400, "invalid_event_id", _PARAM)


def _trimmed(site: Site) -> Iterable[Refused]:
    """After its retention a job is gone; one who has read it is told so."""
    job_id, event_id = site.finished()
    site.redis.zadd(keys.DEADLINES, {f"retention:{job_id}": 1})
    site.wait_until(lambda: not site.redis.exists(keys.job(job_id)))
    for path, _ in _paths(job_id):
        reply = site.request("GET", path, last_event_id=event_id)
        yield Refused(reply, 410, "stream_expired")


def _text(body: bytes) -> str:
    chunks = [json.loads(data) for data in re.findall(rb"^data: (\{.*)$", body, re.MULTILINE)]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


def _http_1_0(site: Site) -> Iterable[Refused]:
    """No chunks, which that protocol does not know: the answer ends with the connection."""
    whole = site.request("POST", CHAT, chat(stream=True)).body
    with site.connect() as connection:
        connection.sendall(request("POST", CHAT, chat(stream=True), http="1.0"))
        reply = read_reply(connection)
    assert "transfer-encoding" not in reply.headers
    assert reply.body.startswith(b"id: ") and reply.body.endswith(b"data: [DONE]\n\n")
    assert _text(reply.body) == _text(whole)
    with site.connect() as connection:
        connection.sendall(request("GET", f"{JOBS}/x", http="1.0"))
        yield Refused(read_reply(connection), 404, "job_not_found")


def _head(site: Site) -> Iterable[Refused]:
    """An answer without a body, after which the connection is as good as before."""
    with site.connect() as connection:
        for path, status in ((CHAT, 405), (JOBS, 405), ("/nothing", 404)):
            connection.sendall(request("HEAD", path))
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(65536)
            assert received.startswith(f"HTTP/1.1 {status} ".encode()) and received.endswith(b"\r\n\r\n")
        connection.sendall(request("GET", f"{JOBS}/x"))
        yield Refused(read_reply(connection), 404, "job_not_found")


def _many_readers(site: Site) -> Iterable[Refused]:
    """The cap holds for one key, over all its streams, and frees what ends."""
    job_id = site.submit(max_tokens=3000)
    paths = [path for path, _ in _paths(job_id)]
    with ExitStack() as stack:
        for index in range(MAX_READERS):
            connection: Any = stack.enter_context(site.connect())
            connection.sendall(request("GET", paths[index % 2]))
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
        for path in paths:
            yield Refused(site.request("GET", path), 429, "rate_limit_exceeded")
        reply = site.request("POST", CHAT, chat(stream=True))
        yield Refused(reply, 429, "rate_limit_exceeded")
        yield Refused(site.request("GET", f"{JOBS}/{job_id}?wait=5"), 429, "rate_limit_exceeded")
        assert site.request("GET", f"{JOBS}/{job_id}").status == 200
    site.wait_until(lambda: site.request("POST", CHAT, chat()).status == 200)
    assert site.request("POST", f"{JOBS}/{job_id}/cancel").status == 200


CASES = [
    _event_id("F59 letters", "abc"),
    _event_id("F59 a negative number", "-1"),
    _event_id("F59 a hexadecimal number", "0x1"),
    _event_id("F59 10 KB", "1" * 10_000),
    _event_id("F59 line ends", "1\t", in_query="1%0d%0aid:%202"),
    _event_id("F59 beyond ASCII", "1.\xe9", in_query="1.%C3%A9"),
    Case("F59 another job's", _of_another_job),
    Case("F59 beyond the end", _ahead),
    Case("F59 of a job that is gone", _trimmed),
    Case("F61 HTTP/1.0", _http_1_0),
    Case("F61 HEAD", _head),
    Case("F61 too many readers", _many_readers),
]

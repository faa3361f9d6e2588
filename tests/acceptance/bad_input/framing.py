"""Part A: what is not HTTP, not JSON, or too much of either."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Iterable

from tests.acceptance.bad_input.case import Case, Refused, asked, post, sent
from tests.acceptance.bad_input.site import CHAT, JOBS, MINE, Site, chat, read_reply, request

_LIMIT = 4_194_304
_POST = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {MINE}\r\n".encode()
_GET = f"GET /v1/models HTTP/1.1\r\nauthorization: Bearer {MINE}\r\n".encode()


def _malformed(name: str, body: bytes) -> list[Case]:
    return [post(f"{name} {path}", body, 400, path=path) for path in (CHAT, JOBS)]


def _chunked(site: Site) -> Iterable[Refused]:
    """A body without a length. The client never ends it: the answer comes at the limit."""
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with site.connect() as connection:
        connection.sendall(_POST + b"transfer-encoding: chunked\r\n\r\n" + chunk * (_LIMIT // 65536 + 1))
        yield Refused(read_reply(connection), 413, "request_too_large")


def _slow_body(site: Site) -> Iterable[Refused]:
    with site.connect() as connection:
        connection.sendall(_POST + b"content-length: 100000\r\n\r\n")
        connection.setblocking(False)
        _trickle(connection)
        connection.settimeout(20)
        yield Refused(read_reply(connection), 408)


def _slow_head(site: Site) -> Iterable[Refused]:
    """Closed without an answer: there is no request yet. So are line ends that never become one."""
    for first in (_POST + b"x: ", b"\r\n"):
        with site.connect() as connection:
            connection.sendall(first)
            connection.setblocking(False)
            _trickle(connection, b"\r\n" if first == b"\r\n" else b"y")
    return []


def _trickle(connection: socket.socket, piece: bytes = b"y") -> None:
    """A byte ten times a second until the server says something or closes; at most 15 s."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        try:
            connection.sendall(piece)
            connection.recv(1, socket.MSG_PEEK)
            return
        except BlockingIOError:
            time.sleep(0.1)
        except ConnectionError:
            return
    raise AssertionError("still open after 15 s")


def _duplicate(name: str, first: str, last: str) -> bytes:
    body = json.dumps(chat())[1:]
    return f'{{"{name}":{first},{body[:-1]},"{name}":{last}}}'.encode()


CASES = [
    *_malformed("A1 truncated JSON", b'{"model":'),
    *_malformed("A2 single quotes", b"{'a':1}"),
    *_malformed("A3 empty body", b""),
    *_malformed("A4 an array", b"[]"),
    *_malformed("A4 a string", b'"x"'),
    *_malformed("A4 null", b"null"),
    *_malformed("A5 not UTF-8", b'{"a":"\xff"}'),
    *_malformed("A6 half a surrogate pair", b'{"a":"\\ud800"}'),
    *_malformed("A6 half a surrogate pair in a name", b'{"\\udfff":1}'),
    *_malformed("A7 NUL", b'{"a":"\\u0000"}'),
    *_malformed("A7 NUL as a byte", b'{"a":"\x00"}'),
    *_malformed("A8 NaN", b'{"a":NaN}'),
    *_malformed("A8 Infinity", b'{"a":-Infinity}'),
    *_malformed("A8 1e999", b'{"a":1e999}'),
    # RFC 8259, 4: unpredictable elsewhere; here the last one counts, and the first has no effect.
    post(
        "A9 a name that occurs twice",
        _duplicate("model", '"tiny"', '"nobody"'),
        404,
        "model_not_found",
        "model",
    ),
    *_malformed("A10 depth of arrays", b"[" * 10_000 + b"]" * 10_000),
    *_malformed("A10 depth of objects", b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    *_malformed("A10 a million values", b'{"a":[' + b"0," * 1_000_000 + b"0]}"),
    *_malformed("A11 an integer of 5,000 digits", b'{"a":' + b"9" * 5000 + b"}"),
    post("A12 a body over the limit", b"x" * (_LIMIT + 1), 413, "request_too_large"),
    Case("A12 a body over the limit in chunks", _chunked),
    sent("A13 a negative length", _POST + b"content-length: -1\r\n\r\n", 400),
    sent("A13 two lengths", _POST + b"content-length: 1\r\ncontent-length: 2\r\n\r\n{}", 400),
    sent("A13 length and chunks", _POST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}", 400),
    sent(
        "A13 chunks and length",
        _POST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        400,
    ),
    sent("A13 unknown coding", _POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
    sent("A13 chunks without a size", _POST + b"transfer-encoding: chunked\r\n\r\nZZ\r\n", 400),
    sent("A13 not HTTP", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\r\n\r\n", 400),
    sent("A13 HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    post("A14 text", chat(), 415, content_type="text/plain"),
    post("A14 a form", chat(), 415, content_type="application/x-www-form-urlencoded"),
    post("A15 gzip", gzip.compress(b" " * 10_000_000), 415, content_encoding="gzip"),
    sent("A16 a header of 1 MiB", _GET + b"x: " + b"y" * 1_048_576 + b"\r\n\r\n", 431),
    sent("A16 a header of 1 MiB that does not end", _GET + b"x: " + b"y" * 1_048_576, 431),
    sent("A16 10,000 headers", _GET + b"".join(b"x%d: y\r\n" % i for i in range(10_000)) + b"\r\n", 431),
    sent("A16 200 headers", _GET + b"x: y\r\n" * 200 + b"\r\n", 431),
    sent(
        "A16 200 headers behind the body",
        _POST + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n" + b"x: y\r\n" * 200 + b"\r\n",
        431,
    ),
    Case("A17 a head that dribbles in", _slow_head),
    Case("A17 a body that dribbles in", _slow_body),
    sent("A18 a host with a path", request("GET", "/v1/nothing", host="x/v1/models#@y"), 404),
    sent("A18 a host with a query", request("PUT", "/v1/models", host="x/health/live?"), 405),
    sent("A18 a host that is none", request("GET", "/v1/nothing", host="[::1"), 404),
    sent("A18 a host that is none, and a path with a slash", request("GET", "/v1/jobs/", host="[::1"), 404),
    asked("A19 a path that is none", "GET", "/nothing", 404),
    asked("A19 a path of bytes", "GET", "/v1/%ff%00", 404),
    sent("A19 a path that climbs", request("GET", "/v1/models/../jobs"), 404, "model_not_found", "model"),
    asked("A19 GET of a chat", "GET", CHAT, 405),
    asked("A19 PUT of jobs", "PUT", JOBS, 405),
    asked("A19 DELETE of models", "DELETE", "/v1/models", 405),
]

"""Raw HTTP: requests that no HTTP library would send."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.fuzz.garbage import RAW_JSON, STRINGS, change, damage, json_text, value
from tests.fuzz.target import CHAT, JOBS, chat


@dataclass(frozen=True, slots=True)
class RawRequest:
    """Bytes to send on a connection of their own."""

    group: str
    raw: bytes
    #: Whether the client ends its side of the connection after these bytes. Then there may be no response.
    is_cut: bool = False
    has_body: bool = True


#: Makes one request. `ids`: jobs, chats and event ids that exist.
Maker = Callable[[random.Random, "Known"], RawRequest]


@dataclass(frozen=True, slots=True)
class Known:
    """What exists in the system under attack."""

    model: str
    job_id: str
    chat_id: str
    event_id: str


_PATHS = (
    "/", CHAT, JOBS, "/v1/models", "/v1/workers", "/health", "/health/live", "/health/ready", "/metrics",
    "/docs",
    "/openapi.json", "/v1/embeddings", "/v1/chat", "/v1/jobs/", "/v1", "//v1//jobs", "/v1/jobs/../models",
    "/favicon.ico",
)  # fmt: skip
_METHODS = (
    "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get",
    "BREW", "G\xcbT", "", "A" * 300,
    "PRI",
)  # fmt: skip
_TYPES = (
    "application/json", "application/json; charset=utf-16", "application/json;charset=latin-1",
    "text/plain", "text/html", "", "x",
    "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "multipart/form-data",
    "application/xml", "json", "*/*",
    "application/vnd.api+json", "application/JSON", "application/json, text/plain", "\xff/\xff", "a" * 3000,
)  # fmt: skip
_ENCODINGS = ("gzip", "br", "deflate", "identity", "zstd", "gzip, gzip", "x", "", "chunked")
_QUERY_NAMES = (
    "wait",
    "output",
    "status",
    "limit",
    "after",
    "starting_after",
    "mode",
    "n",
    "before",
    "",
    "a[b]",
    "wait ",
    "WAIT",
    "é",
)
_QUERY_VALUES = (
    "0", "-1", "1e3", "nan", "inf", "-inf", "1e999", "true", "TRUE", "1_0", "%00", "%ff", "%ed%a0%80",
    "x" * 2000, "0x1", "٣", "",
    "completed", "job_AAAAAAAAAAAAAAAAAAAAAAAA", "0.05", "%F0%9F%92%A9", "1;2", "%0d%0aid:%201",
)  # fmt: skip
_HOSTS = (
    "127.0.0.1",
    "localhost",
    "evil.example",
    "[::1]",
    "[::1",
    "",
    "a b",
    "x/y?z",
    "localhost:99999",
    "127.0.0.1:0",
    "\xff",
)
_LENGTHS = ("-1", "+5", "1e3", "0x10", " 5 5", "a", "9" * 40, "1, 1")
_CODINGS = ("gzip", "chunked, gzip", "chunked, chunked", "xchunked", "identity")
_EXPECTS = ("100-continue", "200-ok", "")


def head(method: str, target: str, *lines: str, version: str = "HTTP/1.1") -> bytes:
    """A request's head with a valid Host, which `lines` may double."""
    text = "\r\n".join((f"{method} {target} {version}", "host: 127.0.0.1", *lines, "", ""))
    return text.encode("latin-1", "replace")


def post(target: str, body: bytes, *lines: str) -> bytes:
    """A POST with a correct length."""
    kind = (
        ()
        if any(line.lower().startswith("content-type") for line in lines)
        else ("content-type: application/json",)
    )
    return head("POST", target, *kind, f"content-length: {len(body)}", *lines) + body


def body_of(chance: random.Random, known: Known) -> tuple[str, dict[str, Any]]:
    """A path, and a valid body for it."""
    fields: dict[str, Any] = chance.choice(
        (
            {},
            {"stream": True, "stream_options": {"include_usage": True}},
            {"n": 2, "stop": ["a", "b"], "logprobs": True, "top_logprobs": 2},
            {"logit_bias": {"5": 1}, "temperature": 0.5, "top_p": 0.9, "seed": 1, "metadata": {"a": "b"}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "object"}},
                }
            },
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}], "user": "u"},
        )
    )
    body = chat(known.model, **fields)
    if chance.random() < 0.6:
        return CHAT, body
    body.pop("metadata", None)
    job = {"endpoint": CHAT, "body": body, "priority": "low", "expires_after": 60, "metadata": {"a": "b"}}
    return JOBS, job


def bodies(chance: random.Random, known: Known) -> RawRequest:
    """A valid body with a changed tree or changed bytes."""
    path, body = body_of(chance, known)
    return RawRequest("JSON bodies", post(path, json_text(chance, body)))


def raw_values(chance: random.Random, known: Known) -> RawRequest:
    """A valid body in which one value is a text that is not JSON, or that parsers read differently."""
    path, body = body_of(chance, known)
    names = sorted(body) + ["body"] * (path == JOBS)
    name, marker = chance.choice(names), "6f1e4c"
    inner = body["body"] if path == JOBS and chance.random() < 0.7 else body
    inner[name if name in inner else chance.choice(sorted(inner))] = marker
    raw = json.dumps(body).encode().replace(f'"{marker}"'.encode(), chance.choice(RAW_JSON), 1)
    return RawRequest("JSON values that Python does not write", post(path, raw))


def doubled(chance: random.Random, known: Known) -> RawRequest:
    """A name that occurs twice."""
    path, body = body_of(chance, known)
    name = chance.choice(sorted(body))
    second = json.dumps({name: change(chance, value(chance))}, ensure_ascii=True)[1:-1]
    raw = json.dumps(body)[:-1] + ", " + second + "}"
    return RawRequest("JSON names twice", post(path, raw.encode()))


def huge(chance: random.Random, known: Known) -> RawRequest:
    """Depth, length and number beyond any use."""
    n = chance.choice((100, 5_000, 60_000))
    path, body = body_of(chance, known)
    inner = body.get("body", body)
    match chance.randrange(6):
        case 0:
            inner["messages"] = [{"role": "user", "content": "x"}] * n
        case 1:
            inner["messages"][0]["content"] = chance.choice(STRINGS) * min(n, 2000)
        case 2:
            inner["logit_bias"] = {str(index): 1 for index in range(n)}
        case 3:
            inner["stop"] = ["a" * 50] * n
        case 4:
            return RawRequest("huge bodies", post(path, b'{"a":' * n + b"1" + b"}" * n))
        case _:
            inner["metadata"] = {f"k{index}": "v" for index in range(n)}
    return RawRequest("huge bodies", post(path, json.dumps(body).encode()))


def media_types(chance: random.Random, known: Known) -> RawRequest:
    path, body = body_of(chance, known)
    lines = [f"content-type: {chance.choice(_TYPES)}"]
    if chance.random() < 0.5:
        lines.append(f"content-encoding: {chance.choice(_ENCODINGS)}")
    if chance.random() < 0.2:
        lines.append(f"content-type: {chance.choice(_TYPES)}")
    if chance.random() < 0.3:
        lines.append(f"accept: {chance.choice((*_TYPES, 'text/event-stream', 'text/event-stream;q=x'))}")
    return RawRequest("media types and encodings", post(path, json.dumps(body).encode(), *lines))


def methods_and_paths(chance: random.Random, known: Known) -> RawRequest:
    method = chance.choice(_METHODS)
    path = chance.choice(
        (*_PATHS, f"{JOBS}/{known.job_id}", f"{JOBS}/{known.job_id}/events", f"{CHAT}/{known.chat_id}")
    )
    match chance.randrange(6):
        case 0:
            path += "/" + quote(chance.choice(STRINGS)[:200], errors="surrogatepass")
        case 1:
            path = "/" + "".join(f"%{chance.randrange(256):02x}" for _ in range(chance.randrange(1, 40)))
        case 2:
            path = chance.choice(
                (
                    "*",
                    "http://evil.example/v1/jobs",
                    "x",
                    "?",
                    "#",
                    "/\xff\xfe",
                    "/" + "a" * 20_000,
                    "/%",
                    "/%zz",
                )
            )
        case _:
            pass
    return RawRequest("methods and paths", head(method, path), has_body=method != "HEAD")


def queries(chance: random.Random, known: Known) -> RawRequest:
    path = chance.choice(
        (
            JOBS,
            f"{JOBS}/{known.job_id}",
            f"{JOBS}/{known.job_id}/events",
            f"{CHAT}/{known.chat_id}/events",
            "/v1/models",
            "/v1/workers",
        )
    )
    pairs = [
        f"{quote(chance.choice(_QUERY_NAMES))}={chance.choice(_QUERY_VALUES)}"
        for _ in range(chance.randrange(1, 4))
    ]
    return RawRequest("query parameters", head("GET", f"{path}?{'&'.join(pairs)}"))


def cursors(chance: random.Random, known: Known) -> RawRequest:
    """A real event id, damaged."""
    path, name = chance.choice(
        ((f"{JOBS}/{known.job_id}/events", "after"), (f"{CHAT}/{known.chat_id}/events", "starting_after"))
    )
    raw = known.event_id.encode()
    for _ in range(chance.randrange(1, 4)):
        raw = damage(chance, raw)
    if chance.random() < 0.5:
        return RawRequest("cursors", head("GET", f"{path}?{name}={quote(raw)}"))
    text = raw.replace(b"\r", b"").replace(b"\n", b"").decode("latin-1")
    return RawRequest("cursors", head("GET", path, f"last-event-id: {text}"))


def ids(chance: random.Random, known: Known) -> RawRequest:
    """Ids of jobs and chats, damaged, for every route that takes one."""
    job, talk = (damage(chance, one.encode()) for one in (known.job_id, known.chat_id))
    method, path = chance.choice(
        (
            ("GET", f"{JOBS}/{quote(job)}"), ("DELETE", f"{JOBS}/{quote(job)}x"),
            ("POST", f"{JOBS}/{quote(job)}x/cancel"),
            ("POST", f"{JOBS}/{quote(job)}x/retry"), ("GET", f"{JOBS}/{quote(job)}/events"),
            ("GET", f"{CHAT}/{quote(talk)}/events"),
            ("GET", f"/v1/models/{quote(job)}"), ("POST", f"/v1/workers/{quote(job)}/drain"),
        )
    )  # fmt: skip
    return RawRequest("ids", head(method, path, "content-length: 0"))


def keys(chance: random.Random, known: Known) -> RawRequest:
    """Idempotency keys, credentials, origins and hosts that are none."""
    path, body = body_of(chance, known)
    odd = (
        chance.choice(STRINGS)[:5000]
        .replace("\r", "")
        .replace("\n", "")
        .encode("utf-8", "surrogatepass")
        .decode("latin-1")
    )
    name = chance.choice(
        (
            "idempotency-key",
            "authorization",
            "origin",
            "x-request-id",
            "sec-fetch-site",
            "cookie",
            "x-forwarded-for",
            "referer",
        )
    )
    lines = [f"{name}: {odd}"] * chance.choice((1, 1, 2))
    if name == "authorization" and chance.random() < 0.7:
        lines = [f"authorization: {chance.choice(('Bearer', 'Basic', 'bearer', 'Bearer '))} {odd}"]
    if chance.random() < 0.2:
        lines.append(f"host: {chance.choice(_HOSTS)}")
    return RawRequest("keys and origins", post(path, json.dumps(body).encode(), *lines))


def floods(chance: random.Random, known: Known) -> RawRequest:
    """Many headers, long ones, a long target."""
    n = chance.choice((50, 101, 1000, 5000))
    match chance.randrange(4):
        case 0:
            lines = [f"x-{index}: y" for index in range(n)]
        case 1:
            lines = ["x: " + "y" * n * 20]
        case 2:
            lines = ["cookie: " + "; ".join(f"a{index}=b" for index in range(n))]
        case _:
            return RawRequest(
                "header floods", head("GET", f"{JOBS}?{'&'.join(f'x{index}=1' for index in range(n))}")
            )
    return RawRequest("header floods", head("GET", f"{JOBS}/{known.job_id}", *lines))


def framing(chance: random.Random, known: Known) -> RawRequest:
    """Heads and lengths that contradict themselves, or are no HTTP."""
    raw = json.dumps(chat(known.model)).encode()
    kind = "content-type: application/json"
    size = len(raw)
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (size, raw)
    made = (
        head("POST", CHAT, kind, f"content-length: {chance.choice(_LENGTHS)}") + raw,
        head("POST", CHAT, kind, f"content-length: {size}", f"content-length: {size + 1}") + raw,
        head("POST", CHAT, kind, f"content-length: {size}", "transfer-encoding: chunked") + chunk,
        head("POST", CHAT, kind, f"transfer-encoding: {chance.choice(_CODINGS)}") + chunk,
        head("POST", CHAT, kind, "transfer-encoding: chunked")
        + chance.choice((b"zz\r\n", b"-5\r\nhello\r\n", b"f" * 30 + b"\r\n",
        b"5;x=\xff\r\nhello\r\n0\r\n\r\n", b"\r\n", b"5\nhello\n0\n\n")),
        head("POST", CHAT, kind, f"expect: {chance.choice(_EXPECTS)}", f"content-length: {size}") + raw,
        head("GET", JOBS, version=chance.choice(("HTTP/0.9", "HTTP/1.0", "HTTP/2.0", "HTTP/9.9",
        "HTTP/1.1 x", "http/1.1", "", "JUNK"))),
        head("GET", JOBS, chance.choice((" folded", "no colon", ": empty", "a b: c", "x\0y: z", "x: \0",
        "x: a\rb", "\xff: \xff"))),
        head("GET", JOBS, "connection: upgrade", "upgrade: " + chance.choice(("websocket", "h2c", "x"))),
        head("GET", JOBS).replace(b"\r\n", b"\n"),
        damage(chance, head("GET", JOBS)),
        damage(chance, post(CHAT, raw)),
        b"GET " + JOBS.encode() + b"\r\n\r\n",
        chance.randbytes(chance.randrange(1, 200)) + b"\r\n\r\n",
        head("GET", JOBS) * chance.randrange(2, 30),
    )  # fmt: skip
    return RawRequest("broken framing", chance.choice(made))


def cut(chance: random.Random, known: Known) -> RawRequest:
    """A request that ends in the middle: within the head, the body, or a chunk."""
    path, body = body_of(chance, known)
    raw = json.dumps(body).encode()
    chunked = head("POST", path, "content-type: application/json", "transfer-encoding: chunked") + b"".join(
        b"%x\r\n%s\r\n" % (len(raw[at : at + 20]), raw[at : at + 20]) for at in range(0, len(raw), 20)
    )
    whole = chance.choice(
        (post(path, raw), chunked + b"0\r\n\r\n", head("GET", f"{JOBS}/{known.job_id}/events"))
    )
    return RawRequest("cut in the middle", whole[: chance.randrange(1, len(whole))], is_cut=True)


MAKERS: tuple[Maker, ...] = (
    bodies, bodies, bodies, raw_values, raw_values, doubled, huge, media_types, methods_and_paths, queries,
    cursors, ids, keys,
    floods, framing, framing, cut,
)  # fmt: skip


def make(seed: int, number: int, known: Known) -> RawRequest:
    """The request with this number: the same at every call."""
    chance = random.Random(f"{seed}/{number}")
    return chance.choice(MAKERS)(chance, known)

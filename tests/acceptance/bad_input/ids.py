"""Parts D and E: keys, ids that are none, and other people's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from shared.store import keys
from tests.acceptance.bad_input.case import Case, Refused, sent
from tests.acceptance.bad_input.site import CHAT, JOBS, THEIRS, Site, chat, request

_UNKNOWN = "a" * 24


def _paths(tail: str) -> list[tuple[str, str]]:
    """Every route that takes an id; `tail` is the random part of one."""
    job, completion = f"{JOBS}/job_{tail}", f"{CHAT}/chatcmpl-{tail}"
    return [
        ("GET", job),
        ("GET", f"{job}?wait=1"),
        ("GET", f"{job}/events"),
        ("POST", f"{job}/cancel"),
        ("POST", f"{job}/retry"),
        ("DELETE", job),
        ("GET", completion),
        ("GET", f"{completion}/events"),
    ]


def _unauthorized(name: str, authorization: str | None) -> Case:
    def act(site: Site) -> Iterable[Refused]:
        headers = {} if authorization is None else {"authorization": authorization}
        for method, path, body in (("POST", CHAT, chat()), ("POST", JOBS, {}), ("GET", "/v1/models", None)):
            reply = site.request(method, path, body, key=None, **headers)
            yield Refused(reply, 401, "invalid_api_key")

    return Case(name, act)


def _foreign(site: Site) -> Iterable[Refused]:
    """The same answer as for an id that nobody has, to the letter."""
    tail = site.submit().removeprefix("job_")
    for (method, path), (_, unknown_path) in zip(_paths(tail), _paths(_UNKNOWN), strict=True):
        foreign = site.request(method, path, key=THEIRS)
        unknown = site.request(method, unknown_path, key=THEIRS)
        assert foreign.body == unknown.body.replace(_UNKNOWN.encode(), tail.encode())
        assert {*foreign.headers} == {*unknown.headers}
        yield Refused(foreign, 404, "job_not_found")
        yield Refused(unknown, 404, "job_not_found")
    assert tail.encode() not in site.request("GET", JOBS, key=THEIRS).body
    assert site.request("GET", f"{JOBS}/job_{tail}").json["status"] != "cancelled"


def _no_id(name: str, text: str) -> Case:
    """No route takes it, and no name in Redis is made of it."""

    def act(site: Site) -> Iterable[Refused]:
        for path in (f"{JOBS}/{text}", f"{JOBS}/{text}/events", f"{CHAT}/{text}", f"{CHAT}/chatcmpl-{text}"):
            yield Refused(site.request("GET", path), 404, None if "%2f" in text else "job_not_found")
        assert not [key for key in site.redis.keys(keys.job("*")) if len(key) > 64 or b"x" * 9 in key]

    return Case(name, act)


def _query(name: str, query: str, param: str) -> Case:
    return sent(name, request("GET", f"{JOBS}?{query}"), 400, "invalid_value", param)


def _after_foreign(site: Site) -> Iterable[Refused]:
    job_id = site.submit()
    reply: Any = site.request("GET", f"{JOBS}?after={job_id}", key=THEIRS)
    yield Refused(reply, 400, "invalid_value", "after")


CASES = [
    _unauthorized("D53 no key", None),
    _unauthorized("D53 another scheme", "Basic sk-mine"),
    _unauthorized("D53 an empty key", "Bearer "),
    _unauthorized("D53 a key of 10 KB", "Bearer " + "x" * 10_000),
    _unauthorized("D53 a key beyond ASCII", "Bearer sk-min\xe9"),
    _unauthorized("D53 a key that is SQL", "Bearer ' OR 1=1"),
    Case("E56 foreign ids", _foreign),
    _no_id("E57 an id with a slash", "xxxxxxxxx%2f..%2fx"),
    _no_id("E57 a pattern", "*xxxxxxxxx"),
    _no_id("E57 braces", "{xxxxxxxxx}"),
    _no_id("E57 line ends", "xxxxxxxxx%0d%0aset-cookie:x"),
    _no_id("E57 10 KB", "x" * 10_000),
    _query("E58 limit 1e9", "limit=1e9", "limit"),
    _query("E58 limit 0", "limit=0", "limit"),
    _query("E58 limit of digits that are no ASCII", "limit=%D9%A3", "limit"),
    _query("E58 after nothing", "after=x", "after"),
    _query("E58 after unknown", f"after=job_{_UNKNOWN}", "after"),
    _query("E58 unknown status", "status=happy", "status"),
    Case("E58 after a foreign job", _after_foreign),
    sent(
        "E58 wait for ever", request("GET", f"{JOBS}/job_{_UNKNOWN}?wait=nan"), 400, "invalid_value", "wait"
    ),
]

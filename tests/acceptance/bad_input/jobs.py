"""Part G: keys of requests, and what only jobs have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.acceptance.bad_input.case import Case, Refused, post, sent
from tests.acceptance.bad_input.site import CHAT, JOBS, THEIRS, Site, chat, request

_PARAM = "Idempotency-Key"


def _job(**fields: Any) -> dict[str, Any]:
    return {"endpoint": CHAT, "body": chat(), **fields}


def _field(name: str, fields: dict[str, Any], code: str, param: str) -> Case:
    body = {field: value for field, value in _job(**fields).items() if value is not None}
    return post(name, body, 400, code, param, path=JOBS)


def _key(name: str, key: str) -> Case:
    def act(site: Site) -> Iterable[Refused]:
        for path, body in ((CHAT, chat()), (JOBS, _job())):
            reply = site.request("POST", path, body, idempotency_key=key)
            yield Refused(reply, 400, "invalid_value", _PARAM)

    return Case(name, act)


def _other_body(site: Site) -> Iterable[Refused]:
    """The key stays with its first request."""
    for path, first, other in ((CHAT, chat(), chat(max_tokens=5)), (JOBS, _job(), _job(priority="low"))):
        key = f"{site.submit()}"
        assert site.request("POST", path, first, idempotency_key=key).status in (200, 202)
        yield Refused(
            site.request("POST", path, other, idempotency_key=key), 409, "idempotency_key_reused", _PARAM
        )


def _in_flight(site: Site) -> Iterable[Refused]:
    """The same job for its owner, another one for another: a key tells nobody anything."""
    body = _job(body=chat(max_tokens=3000))
    key = site.submit()
    mine = [site.request("POST", JOBS, body, idempotency_key=key) for _ in range(3)]
    theirs = site.request("POST", JOBS, body, key=THEIRS, idempotency_key=key)
    assert len({reply.json["id"] for reply in mine}) == 1 and theirs.json["id"] != mine[0].json["id"]
    assert [reply.headers.get("idempotent-replayed") for reply in (*mine, theirs)] == [
        None,
        "true",
        "true",
        None,
    ]
    job_id = mine[0].json["id"]
    yield Refused(site.request("POST", f"{JOBS}/{job_id}/retry"), 409, "job_not_over")
    for job, owner in ((job_id, "sk-mine"), (theirs.json["id"], THEIRS)):
        assert site.request("POST", f"{JOBS}/{job}/cancel", key=owner).status == 200


def _bad_host(site: Site) -> Iterable[Refused]:
    """The Host header is no part of what a key belongs to."""
    key = site.submit()
    hosts = ("baton", "[::1", "x/#@y")
    replies = [site.request("POST", JOBS, _job(), idempotency_key=key, host=host) for host in hosts]
    assert [reply.status for reply in replies] == [202] * 3
    assert len({reply.json["id"] for reply in replies}) == 1
    return []


CASES = [
    sent("G62 a key of 10 MB", request("POST", JOBS, _job(), idempotency_key="x" * 10_000_000), 431),
    _key("G62 a key of 256", "x" * 256),
    _key("G62 an empty key", ""),
    _key("G62 a tab in a key", "a\tb"),
    _key("G62 a key beyond ASCII", "a\xe9"),
    Case("G62 a key, and a host that is none", _bad_host),
    Case("G63 the same key, another body", _other_body),
    Case("G64 the same key in flight", _in_flight),
    _field("G65 expires_after -1", {"expires_after": -1.5}, "decimal_below_min_value", "expires_after"),
    _field("G65 expires_after 1e18", {"expires_after": 1e18}, "decimal_above_max_value", "expires_after"),
    _field("G65 cancel_after 0", {"cancel_after": 0.0}, "decimal_below_min_value", "cancel_after"),
    _field("G65 expires_after as text", {"expires_after": "5"}, "invalid_type", "expires_after"),
    _field("G65 priority urgent!", {"priority": "urgent!"}, "invalid_value", "priority"),
    _field("G65 on_disconnect maybe", {"on_disconnect": "maybe"}, "invalid_value", "on_disconnect"),
    _field("G65 no endpoint", {"endpoint": None}, "missing_required_parameter", "endpoint"),
    _field("G65 another endpoint", {"endpoint": "/v1/jobs"}, "invalid_value", "endpoint"),
    _field("G65 a body that is none", {"body": "x"}, "invalid_type", "body"),
    _field("G65 no body", {"body": None}, "missing_required_parameter", "body"),
    _field("G65 an unknown field", {"foo": 1}, "unknown_parameter", "foo"),
    _field("G65 metadata twice", {"metadata": {}, "body": chat(metadata={})}, "invalid_value", "metadata"),
    _field(
        "G65 17 pairs", {"metadata": {str(i): "" for i in range(17)}}, "object_above_max_length", "metadata"
    ),
]

"""Case: one row of the table, and what every error has to look like."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.acceptance.bad_input.site import CHAT, JOBS, Reply, Site, chat, request


@dataclass(frozen=True)
class Refused:
    """An answer, and the error that it has to be."""

    reply: Reply
    status: int
    code: str | None = None
    param: str | None = None

    def check(self) -> None:
        """All of OpenAI's form and nothing but it."""
        assert self.reply.status == self.status, self.reply
        assert self.reply.headers["content-type"] == "application/json"
        assert list(self.reply.json) == ["error"]
        error = self.reply.json["error"]
        assert list(error) == ["message", "type", "param", "code"]
        assert (error["type"], error["code"], error["param"]) == (
            "invalid_request_error",
            self.code,
            self.param,
        ), error
        assert error["message"] and len(self.reply.body) < 2048
        assert ("retry-after" in self.reply.headers) == (self.status in (429, 503))


@dataclass(frozen=True)
class Case:
    """One row: number, name, and what is done. What that yields is checked, the rest it checks itself."""

    name: str
    act: Callable[[Site], Iterable[Refused]]


def post(
    name: str,
    body: Any,
    status: int,
    code: str | None = None,
    param: str | None = None,
    *,
    path: str = CHAT,
    **headers: str,
) -> Case:
    """A body for one path."""
    return Case(
        name,
        lambda site: [Refused(site.request("POST", path, body, **headers), status, code, param)],
    )


def sent(name: str, raw: bytes, status: int, code: str | None = None, param: str | None = None) -> Case:
    """Bytes, whatever they are."""
    return Case(name, lambda site: [Refused(site.exchange(raw), status, code, param)])


def asked(name: str, method: str, path: str, status: int, code: str | None = None) -> Case:
    """A request without a body."""
    return sent(name, request(method, path), status, code)


def field(
    name: str, fields: dict[str, Any], status: int, code: str | None, param: str, *, in_job: str | None = None
) -> Case:
    """A chat's body with these fields (None: without), as a chat and within a job."""
    body = {name: value for name, value in chat(**fields).items() if value is not None}

    def act(site: Site) -> Iterable[Refused]:
        yield Refused(site.request("POST", CHAT, body), status, code, param)
        job = {"endpoint": CHAT, "body": body}
        yield Refused(site.request("POST", JOBS, job), status, code, in_job or f"body.{param}")

    return Case(name, act)


def known_to_worker(name: str, fields: dict[str, Any], param: str, code: str = "invalid_value") -> Case:
    """What only the worker knows: its refusal is the chat's answer, streamed or not, and the job's error."""

    def act(site: Site) -> Iterable[Refused]:
        for streamed in (False, True):
            yield Refused(site.request("POST", CHAT, chat(stream=streamed, **fields)), 400, code, param)
        job = site.request("GET", f"{JOBS}/{site.submit(**fields)}?wait=20").json
        assert (job["status"], job["error"]["code"], job["error"]["param"]) == ("failed", code, param)

    return Case(name, act)

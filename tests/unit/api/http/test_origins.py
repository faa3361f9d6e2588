"""While there are no keys, pages of other sites may not act, and the API has no names but loopback ones."""

from __future__ import annotations

import pytest

from api.http.origins import Origins, check_loopback_host
from shared.errors import RequestError

APP = "https://app.example"


@pytest.mark.parametrize(
    ("method", "fetch_site", "origin"),
    [
        ("POST", None, None),
        ("POST", "none", None),
        ("POST", "same-origin", "http://127.0.0.1:8000"),
        ("POST", "same-site", "http://localhost:3000"),
        ("POST", "cross-site", "http://127.1.2.3:3000"),
        ("DELETE", "cross-site", "https://[::1]:3000"),
        ("POST", "cross-site", APP),
        ("GET", "cross-site", "https://evil.example"),
        ("HEAD", "same-site", None),
    ],
)
def test_these_requests_pass(method: str, fetch_site: str | None, origin: str | None) -> None:
    Origins([APP]).check(method, fetch_site, origin)


@pytest.mark.parametrize(
    ("method", "fetch_site", "origin"),
    [
        ("POST", "cross-site", None),
        ("POST", "same-site", None),
        ("POST", "cross-site", "https://evil.example"),
        ("POST", "same-origin", "http://evil.example:8000"),
        ("POST", None, "https://app.example.evil.example"),
        ("POST", None, "http://localhost.evil.example"),
        ("POST", None, "http://127.0.0.1.evil.example"),
        ("DELETE", None, "null"),
    ],
)
def test_these_are_refused(method: str, fetch_site: str | None, origin: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        Origins([APP]).check(method, fetch_site, origin)
    assert (caught.value.info.status, caught.value.info.code) == (403, "cross_site_request")


def test_a_star_allows_every_origin() -> None:
    Origins(["*"]).check("POST", "cross-site", "https://any.example")


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        ["localhost"],
        ["LOCALHOST:8000"],
        ["localhost."],
        ["127.0.0.1"],
        ["127.5.6.7:80"],
        ["[::1]"],
        ["[::1]:8000"],
    ],
)
def test_loopback_hosts_pass(hosts: list[str]) -> None:
    check_loopback_host(hosts)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.168.0.1",
        "0.0.0.0",
        "[::]",
        "user@localhost",
        "localhost:8000:1",
        "localhost/",
        "::1",
    ],
)
def test_other_hosts_are_refused(host: str) -> None:
    for hosts in ([host], ["localhost", host]):
        with pytest.raises(RequestError) as caught:
            check_loopback_host(hosts)
        assert (caught.value.info.status, caught.value.info.code) == (403, "host_not_allowed")

"""URLs of a Redis: what no client could use is refused with what to write, and without the password."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.asyncio.connection import BlockingConnectionPool

from shared.cluster.celery_app import make_celery
from shared.redis_url import read_redis_url

GOOD = [
    "redis://localhost", "redis://localhost:6379", "redis://[::1]:6379/0", "redis://user:p%2Fw@10.0.0.1:6379/15",
    "redis://:a:b@host/0", "redis://:p@ss@host/0", "rediss://u:p@host:6380/1?ssl_cert_reqs=none",
    "rediss://host/0?ssl_check_hostname=false", "unix:///run/redis.sock", "unix:///run/redis.sock?db=3",
    "unix://user:word@/run/redis.sock",
]  # fmt: skip


@pytest.mark.parametrize("url", GOOD)
def test_both_clients_accept_a_url_that_is_accepted(url: str) -> None:
    assert read_redis_url(url) == url
    pool = BlockingConnectionPool.from_url(url)
    assert pool.connection_class(**pool.connection_kwargs)
    with make_celery(url) as celery, celery.connection() as connection:
        assert connection.transport_cls in ("redis", "rediss")


def refusal(url: str) -> str:
    try:
        read_redis_url(url)
    except ValueError as error:
        return str(error)
    pytest.fail(f"{url} is accepted")


def test_no_url_is_no_mistake() -> None:
    assert read_redis_url("") == ""


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("127.0.0.1:6379", "redis://:password@host:6379/0"),
        ("localhost", "unix:///path"),
        ("sentinel://127.0.0.1:26379", "one primary"),
        ("redis+sentinel://a,b/mymaster", "one primary"),
        ("redis-cluster://a", "one primary"),
        ("http://127.0.0.1:6379", "http is not redis"),
        ("redis://:pass/word@127.0.0.1:6379/0", "/ as %2F"),
        ("redis://:pass#word@127.0.0.1:6379/0", "# as %23"),
        ("redis://:pass?word@127.0.0.1:6379/0", "? as %3F"),
        ("redis://:pass[word@127.0.0.1:6379/0", "[ as %5B"),
        ("redis://127.0.0.1:6379,127.0.0.1:6380/0", "several hosts"),
        ("redis://a,b:6380/0", "several hosts"),
        ("redis://a:redis/0", "1 to 65535"),
        ("redis://a:0/0", "1 to 65535"),
        ("redis://a:65536/0", "1 to 65535"),
        ("redis://:6379/0", "no host"),
        ("redis:///0", "no host"),
        ("redis://a/zero", "database"),
        ("redis://a/-1", "database"),
        ("redis://a/0?foo=1", "'foo'"),
        ("redis://a/0?socket_timeout=5", "'socket_timeout'"),
        ("redis://a/?db=3", "'db'"),
        ("redis://a/0?ssl_cert_reqs=none", "rediss://"),
        ("rediss://a/0?ssl_cert_reqs=maybe", "none, optional, required"),
        ("rediss://a/0?ssl_check_hostname=perhaps", "true or false"),
        ("rediss://a/0?ssl_ca_certs=/none/ca.pem", "no such file"),
        ("unix://", "three slashes"),
        ("unix:///", "three slashes"),
        ("unix://run/redis.sock", "three slashes"),
        ("unix:///run/redis.sock?db=x", "database"),
        ("unix:///run/redis.sock?timeout=5", "'timeout'"),
        ("redis://host name:6379/0", "%20"),
        ("redis://host:6379/0\n", "%20"),
    ],
)
def test_what_no_client_could_use_is_refused_with_what_to_write(url: str, advice: str) -> None:
    assert advice in refusal(url)
    assert "\n" not in refusal(url)


@pytest.mark.parametrize(
    "url", ["redis://:s3cret/x@h/0", "s3cret@h:1", "redis://:s3cret@h:x", "x:s3cret://h"]
)
def test_the_password_is_not_shown(url: str) -> None:
    assert "s3cret" not in refusal(url)


def test_files_that_exist_are_accepted(tmp_path: Path) -> None:
    certificates = tmp_path / "ca.pem"
    certificates.touch()
    url = f"rediss://host/0?ssl_ca_certs={certificates}"
    assert read_redis_url(url) == url

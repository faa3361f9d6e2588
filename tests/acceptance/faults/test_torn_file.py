"""F15: the end of Redis's file torn off: what is written after the next start is kept."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.acceptance.faults.harness.faults import cut_tail
from tests.redis_server import RedisServer

_APPEND = "redis.call('XADD', KEYS[1], ARGV[1], 'e', ARGV[2]) redis.call('SET', 'last', ARGV[1]) return 1"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    torn = RedisServer("always")
    torn.start()
    yield torn
    torn.remove()


@pytest.mark.parametrize("num_bytes", [1, 15, 50, 90, 200, 333, 500])
def test_a_torn_end_harms_nothing_that_comes_later(server: RedisServer, num_bytes: int) -> None:
    append(server, 0, 10, "first")
    server.kill()
    cut_tail(server, num_bytes)
    server.start()
    append(server, num_entries(server), 15, "second")
    before = stream(server)
    server.kill()
    server.start()
    assert stream(server) == before


def test_the_file_rewritten_at_the_start_is_not_torn(server: RedisServer) -> None:
    append(server, 0, 10, "first")
    server.kill()
    server.start()
    server.kill()
    assert cut_tail(server, 500) == 0
    server.start()
    assert num_entries(server) == 10


def append(server: RedisServer, first: int, last: int, text: str) -> None:
    client = redis.Redis.from_url(server.url)
    for number in range(first, last):
        client.eval(_APPEND, 1, "stream", f"1-{number + 1}", text * 50)
    client.close()


def stream(server: RedisServer) -> object:
    client = redis.Redis.from_url(server.url)
    found = client.xrange("stream")
    client.close()
    return found


def num_entries(server: RedisServer) -> int:
    """How many are there; their numbers are without a gap."""
    client = redis.Redis.from_url(server.url)
    found = client.xlen("stream")
    client.close()
    return int(found)

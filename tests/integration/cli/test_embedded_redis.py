"""The options of the Redis of `baton up`."""

from __future__ import annotations

import redis

from cli.supervisor.embedded_redis import STREAM_NODE_BYTES
from tests.redis_server import RedisServer


def test_a_stream_of_one_event_takes_little_memory(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.config_get("stream-node-max-bytes") == {"stream-node-max-bytes": STREAM_NODE_BYTES}
        client.xadd("bench:stream", {"end": "0", "e": '{"type":"queued"}'})
        taken = client.memory_usage("bench:stream")
        client.delete("bench:stream")
    assert taken is not None and taken < 2048

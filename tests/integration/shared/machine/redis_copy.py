"""RedisCopy: all keys of a Redis at one moment, to go back to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from redis.asyncio import Redis


@dataclass(frozen=True)
class RedisCopy:
    """As an append-only file whose end was lost would bring it back."""

    keys: dict[bytes, bytes]

    @classmethod
    async def of(cls, redis: Redis) -> RedisCopy:
        """`redis` must not decode answers."""
        names = sorted(cast(list[bytes], await redis.keys("*")))
        async with redis.pipeline(transaction=True) as pipe:
            for name in names:
                pipe.dump(name)
            return cls(dict(zip(names, await pipe.execute(), strict=True)))

    async def restore(self, redis: Redis) -> None:
        async with redis.pipeline(transaction=True) as pipe:
            pipe.flushdb()
            for name, value in self.keys.items():
                pipe.restore(name, 0, value)
            await pipe.execute()

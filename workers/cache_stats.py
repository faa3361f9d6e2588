"""CacheStats: key-value cache usage and prefix cache counters."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheStats:
    """All zero for a backend without a cache."""

    #: Tokens for which memory is allocated.
    kv_tokens: int = 0
    #: Upper limit of `kv_tokens`. None: unlimited.
    max_kv_tokens: int | None = None
    #: How often a running sequence was preempted because others needed its memory.
    preempted: int = 0
    #: Tokens whose keys and values are in the prefix cache.
    prefix_tokens: int = 0
    #: Sequences that found a cached prefix, and sequences that found none.
    prefix_hits: int = 0
    prefix_misses: int = 0
    #: Tokens copied from the prefix cache instead of being computed.
    saved_tokens: int = 0

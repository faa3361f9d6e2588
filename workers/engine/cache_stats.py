"""CacheStats: what an engine's cache holds, and what it has saved. Knows no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CacheStats:
    #: Tokens that memory is allocated for.
    kv_tokens: int = 0
    #: As many may be allocated; None: unbounded.
    max_kv_tokens: int | None = None
    #: How often a running sequence had to wait again, since others needed its memory.
    preempted: int = 0
    #: Tokens of which the prefix cache holds keys and values.
    prefix_tokens: int = 0
    #: Sequences that found a beginning there, and that found none.
    prefix_hits: int = 0
    prefix_misses: int = 0
    #: Tokens that were copied from there rather than computed.
    saved_tokens: int = 0

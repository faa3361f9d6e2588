"""PrefixCache: keeps keys and values of computed prefixes, so that they are copied and not computed again.

It stores immutable spans of 64 tokens. A span's key is a chained hash of its owner, the model and all tokens
up to its end. Owners therefore cannot find each other's prefixes, nor infer them from response times. Does
not import torch: the content of a span is up to the key-value cache.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from workers.engine.scheduling.sequence import Sequence

#: Tokens per span.
SPAN = 64

#: 128 bits make collisions infeasible.
_DIGEST_BYTES = 16

Kept = TypeVar("Kept")


def prefix_root(owner: str, model_revision: str) -> bytes:
    """The root of the hash chain for an owner and a model revision."""
    return hashlib.blake2b(f"{owner}\0{model_revision}".encode(), digest_size=_DIGEST_BYTES).digest()


class PrefixCache(Generic[Kept]):
    """Holds up to `max_tokens` tokens. Evicts the least recently used spans, the end of a prefix before its
    start."""

    def __init__(self, max_tokens: int) -> None:
        self._max_spans = max_tokens // SPAN
        self._spans: OrderedDict[bytes, Kept] = OrderedDict()
        #: Sequences long enough for a span that found one, and those that found none.
        self.hits = 0
        self.misses = 0
        #: Tokens copied instead of computed.
        self.saved_tokens = 0

    @property
    def num_tokens(self) -> int:
        return len(self._spans) * SPAN

    def find(self, sequence: Sequence) -> int:
        """Return how many leading tokens of the sequence are cached.

        The last token never counts, because a step has to compute at least one.
        """
        names = self._known(sequence)
        if names:
            self.hits += 1
        elif sequence.num_tokens > SPAN and sequence.prefix_root is not None:
            self.misses += 1
        for name in reversed(names):
            self._spans.move_to_end(name)
        self.saved_tokens += len(names) * SPAN
        return len(names) * SPAN

    def spans(self, sequence: Sequence) -> list[Kept]:
        """The spans that `find` found: those of the sequence's computed tokens."""
        return [self._spans[name] for name in _names(sequence, sequence.num_computed // SPAN)]

    def keep(self, sequence: Sequence, copy: Callable[[int, int], Kept]) -> None:
        """Store the computed spans of a sequence. `copy(start, end)` copies the given tokens into a span."""
        names = list(_names(sequence, min(sequence.num_computed // SPAN, self._max_spans)))
        for index, name in enumerate(names):
            if name not in self._spans:
                self._spans[name] = copy(index * SPAN, (index + 1) * SPAN)
        for name in reversed(names):
            self._spans.move_to_end(name)
        while len(self._spans) > self._max_spans:
            self._spans.popitem(last=False)

    def forget(self, sequence: Sequence) -> None:
        """Drop the spans of a sequence, which others may share."""
        for name in _names(sequence, sequence.num_tokens // SPAN):
            self._spans.pop(name, None)

    def _known(self, sequence: Sequence) -> list[bytes]:
        known = []
        for name in _names(sequence, (sequence.num_tokens - 1) // SPAN):
            if name not in self._spans:
                break
            known.append(name)
        return known


def _names(sequence: Sequence, num_spans: int) -> Iterator[bytes]:
    """The keys of the first `num_spans` spans. Empty if the sequence does not share its prefix."""
    name = sequence.prefix_root
    if name is None:
        return
    name += sequence.prefix_salt
    for index in range(num_spans):
        tokens = array("q", sequence.token_ids[index * SPAN : (index + 1) * SPAN])
        name = hashlib.blake2b(name + tokens.tobytes(), digest_size=_DIGEST_BYTES).digest()
        yield name

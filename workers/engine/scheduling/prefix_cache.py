"""PrefixCache: keys and values of beginnings that were computed before, to be copied, not computed again.

What is kept are spans of 64 tokens, never changed again. A span's name is a chained hash of whose it is, of
the model and of all tokens up to its end: nobody finds, or learns by the time it takes, what others asked.
Knows no torch: what a span holds is the SlotCache's business.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from workers.engine.scheduling.sequence import Sequence

#: Tokens of a span.
SPAN = 64

#: 128 bits: nobody makes two of the same name.
_DIGEST_BYTES = 16

Kept = TypeVar("Kept")


def prefix_root(owner: str, model_revision: str) -> bytes:
    """What the names of an owner's spans begin with."""
    return hashlib.blake2b(f"{owner}\0{model_revision}".encode(), digest_size=_DIGEST_BYTES).digest()


class PrefixCache(Generic[Kept]):
    """Holds so many tokens; those that were not used for longest make room, ends before beginnings."""

    def __init__(self, max_tokens: int) -> None:
        self._max_spans = max_tokens // SPAN
        self._spans: OrderedDict[bytes, Kept] = OrderedDict()
        #: Sequences, long enough to have a span, that found one, and that found none.
        self.hits = 0
        self.misses = 0
        #: Tokens that were not computed.
        self.saved_tokens = 0

    @property
    def num_tokens(self) -> int:
        return len(self._spans) * SPAN

    def find(self, sequence: Sequence) -> int:
        """How many of its first tokens are here; the last never counts: something has to be computed."""
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
        """What was found: the spans of its computed tokens."""
        return [self._spans[name] for name in _names(sequence, sequence.num_computed // SPAN)]

    def keep(self, sequence: Sequence, copy: Callable[[int, int], Kept]) -> None:
        """Keeps what is computed of a sequence; `copy` makes a span of its tokens from where to where."""
        names = list(_names(sequence, min(sequence.num_computed // SPAN, self._max_spans)))
        for index, name in enumerate(names):
            if name not in self._spans:
                self._spans[name] = copy(index * SPAN, (index + 1) * SPAN)
        for name in reversed(names):
            self._spans.move_to_end(name)
        while len(self._spans) > self._max_spans:
            self._spans.popitem(last=False)

    def _known(self, sequence: Sequence) -> list[bytes]:
        known = []
        for name in _names(sequence, (sequence.num_tokens - 1) // SPAN):
            if name not in self._spans:
                break
            known.append(name)
        return known


def _names(sequence: Sequence, num_spans: int) -> Iterator[bytes]:
    """Of its first spans; none where it shares nothing."""
    name = sequence.prefix_root
    if name is None:
        return
    for index in range(num_spans):
        tokens = array("q", sequence.token_ids[index * SPAN : (index + 1) * SPAN])
        name = hashlib.blake2b(name + tokens.tobytes(), digest_size=_DIGEST_BYTES).digest()
        yield name

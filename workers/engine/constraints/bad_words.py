"""BadWords: which tokens would complete a word that must not come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Node:
    """Tokens that some words have before their last one, read backwards."""

    #: What may stand before them.
    before: dict[int, _Node] = field(default_factory=dict)
    #: The last tokens of the words that begin here.
    last: set[int] = field(default_factory=set)


class BadWords:
    """Sequences of tokens that an output must not hold. As in vLLM (vllm/v1/sample/ops/bad_words.py) the last
    token of one is barred where the output, without the prompt, ends with all of its others.

    A function of the tokens taken, so a replay rebuilds it; one costs as many look-ups as it matches tokens.
    """

    def __init__(self, words: Iterable[tuple[int, ...]]) -> None:
        """No word is empty."""
        self._root = _Node()
        longest = 1
        for *others, last in words:
            node = self._root
            for token_id in reversed(others):
                node = node.before.setdefault(token_id, _Node())
            node.last.add(last)
            longest = max(longest, len(others) + 1)
        self._tail = deque[int](maxlen=longest - 1)
        #: Tokens that must not be next.
        self.barred = frozenset(self._root.last)

    def push(self, token_id: int) -> None:
        """Take the next token of the output."""
        self._tail.append(token_id)
        barred, node = set(self._root.last), self._root
        for one in reversed(self._tail):
            found = node.before.get(one)
            if found is None:
                break
            node = found
            barred |= node.last
        self.barred = frozenset(barred)

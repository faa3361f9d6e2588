"""BadWords: finds the tokens that would complete a forbidden word."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Node:
    """A trie node over the tokens before the last token of a word, read backwards."""

    #: Child nodes, by the token before.
    before: dict[int, _Node] = field(default_factory=dict)
    #: Last tokens of the words whose first token this is.
    last: set[int] = field(default_factory=set)


class BadWords:
    """Token sequences that an output must not contain.

    As in vLLM (vllm/v1/sample/ops/bad_words.py), the last token of a word is barred when the output, without
    the prompt, ends with all of the word's other tokens. The state depends only on the tokens pushed, so a
    replay restores it. A token costs as many lookups as tokens match.
    """

    def __init__(self, words: Iterable[tuple[int, ...]]) -> None:
        """`words`: must not contain an empty word."""
        self._root = _Node()
        longest = 1
        for *others, last in words:
            node = self._root
            for token_id in reversed(others):
                node = node.before.setdefault(token_id, _Node())
            node.last.add(last)
            longest = max(longest, len(others) + 1)
        self._tail = deque[int](maxlen=longest - 1)
        #: Tokens that must not come next.
        self.barred = frozenset(self._root.last)

    def push(self, token_id: int) -> None:
        """Append the next token of the output."""
        self._tail.append(token_id)
        barred, node = set(self._root.last), self._root
        for one in reversed(self._tail):
            found = node.before.get(one)
            if found is None:
                break
            node = found
            barred |= node.last
        self.barred = frozenset(barred)

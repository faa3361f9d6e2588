"""StreamTimer: how soon and how evenly the client of one stream gets its output."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from api.streaming.updates import Update
from shared.domain.events import ChoiceOutput
from shared.domain.histogram import Histogram


def has_tokens(news: Sequence[Update]) -> bool:
    """Whether there are tokens among these."""
    return any(isinstance(one.event, ChoiceOutput) and one.event.token_ids for one in news)


class StreamTimer:
    """Is told what is sent; tokens that go out together count as one."""

    def __init__(
        self,
        first: Histogram,
        between: Histogram,
        started_at: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._first = first
        self._between = between
        self._clock = clock
        self._last = started_at
        self._has_begun = False

    def sent(self) -> None:
        """Tokens were sent."""
        now = self._clock()
        (self._between if self._has_begun else self._first).observe(now - self._last)
        self._last, self._has_begun = now, True

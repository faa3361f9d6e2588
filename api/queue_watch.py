"""QueueWatch: tells those who follow waiting jobs how their place changes."""

from __future__ import annotations

import asyncio
import logging

from api.follower import Follower
from api.forecast import Forecast
from api.place import Place
from shared.errors import StoreUnavailable

logger = logging.getLogger(__name__)

#: How often a place is looked up: for all followers of this replica in one call.
PERIOD_S = 1.0


class QueueWatch:
    """The followers that want to know their jobs' places. Nothing of it is ever stored."""

    def __init__(self, forecast: Forecast) -> None:
        self._forecast = forecast
        #: Follower -> its job's model and the place that it was told last.
        self._watched: dict[Follower, tuple[str, Place | None]] = {}

    def add(self, follower: Follower, model: str) -> None:
        """Tell this follower, while its job waits, until it is closed."""
        self._watched[follower] = (model, None)
        follower.on_close(lambda: self._watched.pop(follower, None))

    async def run(self) -> None:
        """Look and tell, for ever."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                await self.tick()
            except StoreUnavailable as error:
                logger.warning("queue watch: %s", error)

    async def tick(self) -> None:
        """Tell each follower whose job's place has changed. Raises StoreUnavailable."""
        waiting = [follower for follower in self._watched if follower.is_waiting]
        jobs = [(self._watched[follower][0], follower.job_id) for follower in waiting]
        for follower, place in zip(waiting, await self._forecast.places(jobs), strict=True):
            model, told = self._watched.get(follower, ("", place))
            if place is not None and place != told and follower.is_waiting:
                follower.tell(place)
                self._watched[follower] = (model, place)

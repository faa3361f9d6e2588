"""PositionFeed: tells those who follow waiting jobs how their place changes."""

from __future__ import annotations

import asyncio
import logging

from api.jobs.queue_position import QueuePosition
from api.jobs.wait_estimator import WaitEstimator
from api.streaming.subscription import Subscription
from shared.errors import StoreUnavailable

logger = logging.getLogger(__name__)

#: How often a place is looked up: for all subscriptions of this replica in one call.
PERIOD_S = 1.0


class PositionFeed:
    """The subscriptions that want to know their jobs' places. Nothing of it is ever stored."""

    def __init__(self, wait_estimator: WaitEstimator) -> None:
        self._wait_estimator = wait_estimator
        #: Subscription -> its job's model and the place that it was told last.
        self._watched: dict[Subscription, tuple[str, QueuePosition | None]] = {}

    def add(self, subscription: Subscription, model: str) -> None:
        """Tell this subscription, while its job waits, until it is closed."""
        self._watched[subscription] = (model, None)
        subscription.on_close(lambda: self._watched.pop(subscription, None))

    async def run(self) -> None:
        """Look and tell, for ever."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                await self.tick()
            except StoreUnavailable as error:
                logger.warning("queue watch: %s", error)

    async def tick(self) -> None:
        """Tell each subscription whose job's place has changed. Raises StoreUnavailable."""
        waiting = [subscription for subscription in self._watched if subscription.is_waiting]
        jobs = [(self._watched[subscription][0], subscription.job_id) for subscription in waiting]
        for subscription, place in zip(waiting, await self._wait_estimator.queue_positions(jobs), strict=True):
            model, told = self._watched.get(subscription, ("", place))
            if place is not None and place != told and subscription.is_waiting:
                subscription.tell(place)
                self._watched[subscription] = (model, place)

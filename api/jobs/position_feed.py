"""PositionFeed: tells subscriptions of waiting jobs when the job's position in its queue changes."""

from __future__ import annotations

import asyncio
import logging

from api.jobs.wait_estimator import WaitEstimator
from api.streaming.queue_position import QueuePosition
from api.streaming.subscription import Subscription
from shared.errors import StoreUnavailable

logger = logging.getLogger(__name__)

#: Seconds between two look-ups, each for all subscriptions of this replica in one call.
PERIOD_S = 1.0


class PositionFeed:
    """The subscriptions that show queue positions. Nothing of it is stored."""

    def __init__(self, wait_estimator: WaitEstimator) -> None:
        self._wait_estimator = wait_estimator
        #: Subscription -> its job's model and the position that it was told last.
        self._watched: dict[Subscription, tuple[str, QueuePosition | None]] = {}

    def add(self, subscription: Subscription, model: str) -> None:
        """Tell this subscription, until it is closed."""
        self._watched[subscription] = (model, None)
        subscription.on_close(lambda: self._watched.pop(subscription, None))

    async def run(self) -> None:
        """Do so for ever."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                await self.tick()
            except StoreUnavailable as error:
                logger.warning("queue positions: %s", error)

    async def tick(self) -> None:
        """Tell each subscription whose job's position has changed. Raises StoreUnavailable."""
        waiting = [subscription for subscription in self._watched if subscription.is_waiting]
        jobs = [(self._watched[subscription][0], subscription.job_id) for subscription in waiting]
        positions = await self._wait_estimator.queue_positions(jobs)
        for subscription, position in zip(waiting, positions, strict=True):
            model, told = self._watched.get(subscription, ("", position))
            if position is not None and position != told and subscription.is_waiting:
                subscription.set_queue_position(position)
                self._watched[subscription] = (model, position)

"""WakeUpSender: sends wake-ups through Celery, on a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from celery import Celery
from kombu.exceptions import OperationalError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.domain.wake_up import WakeUp
from shared.errors import BrokerUnavailable, StoreUnavailable
from shared.store import keys
from shared.store.redis_client import UNREADABLE, unavailable_as_error

logger = logging.getLogger(__name__)

#: Seconds that a broker which does not answer may keep a caller. Others depend on it: heartbeats, deadlines, requests.
_PATIENCE_S = 1.0


class WakeUpSender:
    """Sends wake-ups for jobs that are already stored. The reaper sends lost wake-ups again.

    The broker may be another Redis than the store. While a call to it hangs, further calls fail at once.
    """

    def __init__(self, celery: Celery, broker: Redis) -> None:
        self._celery = celery
        self._broker = broker
        # One thread is enough for kombu's producer pool, and keeps this process's wake-ups in order.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="sender")
        #: Since when the thread waits for the broker. None: it is idle.
        self._waiting_since: float | None = None
        #: A question that was not answered in time.
        self._late: asyncio.Future[Any] | None = None
        self._has_failed = False

    @property
    def has_failed(self) -> bool:
        """Whether the broker did not answer when it was last called."""
        return self._has_failed

    async def send(self, wake_ups: Iterable[WakeUp]) -> None:
        """Send a message for each wake-up. A failure is only logged, because the reaper sends another wake-up."""
        sent = list(wake_ups)
        if not sent:
            return
        try:
            if self._is_stuck:
                raise BrokerUnavailable("it has not taken an earlier one")
            sending = asyncio.get_running_loop().run_in_executor(self._executor, self._send, sent)
            if await _ends(sending):
                sending.result()
            elif self._is_stuck:
                raise BrokerUnavailable(f"no answer within {_PATIENCE_S:g} s")
        except BrokerUnavailable as error:
            self._has_failed = True
            logger.warning("%d wake-ups not sent, the first for %s: %s", len(sent), sent[0].job_id, error)

    @property
    def _is_stuck(self) -> bool:
        return self._waiting_since is not None and time.monotonic() - self._waiting_since >= _PATIENCE_S

    def _send(self, wake_ups: list[WakeUp]) -> None:
        """Raises BrokerUnavailable."""
        try:
            for wake_up in wake_ups:
                self._waiting_since = time.monotonic()
                self._celery.send_task(
                    keys.WAKE_UP_TASK,
                    args=(wake_up.job_id,),
                    queue=keys.wake_up_queue(wake_up.model),
                    retry=False,
                )
                self._has_failed = False
        except (OperationalError, RedisError, OSError, *UNREADABLE) as error:
            raise BrokerUnavailable(type(error.__cause__ or error).__name__) from error
        finally:
            self._waiting_since = None

    async def num_waiting(self, model: str) -> int:
        """Return how many wake-ups no worker has taken from the broker. Raises BrokerUnavailable."""
        return cast(int, await self._ask(lambda: self._broker.llen(keys.broker_list(model))))

    async def ping(self) -> None:
        """Raises BrokerUnavailable if the broker does not answer."""
        await self._ask(lambda: self._broker.ping())

    async def _ask(self, begin: Callable[[], Awaitable[Any]]) -> Any:
        """Ask the broker. Raises BrokerUnavailable."""
        try:
            if self._late is not None and not self._late.done():
                raise StoreUnavailable("it has not answered an earlier question")
            asking = asyncio.ensure_future(begin())
            if not await _ends(asking):
                self._late = asking
                raise StoreUnavailable(f"no answer within {_PATIENCE_S:g} s")
            with unavailable_as_error():
                answer = asking.result()
        except StoreUnavailable as error:
            self._has_failed = True
            raise BrokerUnavailable(f"the broker: {error}") from error
        self._has_failed = False
        return answer

    def close(self) -> None:
        """Discard what is not sent yet."""
        self._executor.shutdown(wait=False, cancel_futures=True)


async def _ends(call: asyncio.Future[Any]) -> bool:
    """Wait up to _PATIENCE_S for a call, which goes on if it takes longer. Returns whether it has ended."""
    call.add_done_callback(_mark_retrieved)
    await asyncio.wait([call], timeout=_PATIENCE_S)
    return call.done()


def _mark_retrieved(call: asyncio.Future[Any]) -> None:
    """Asyncio would log the error of a call that nobody waits for any more."""
    if not call.cancelled():
        call.exception()

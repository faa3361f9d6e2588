"""Readers: clients of one API replica, through its real relay. What is published may be late or get lost."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

from api.errors import StreamExpired
from api.streaming.cursor import Cursor
from api.streaming.pubsub_reader import Heard
from api.streaming.relay import SILENCE_S, Relay
from api.streaming.subscription import Subscription
from shared.domain.events import ChoiceOutput, Expired, Failed
from shared.errors import StoreUnavailable
from shared.store.job_store import JobStore
from tests.integration.shared.machine.plan import Plan


class _Mouth:
    """Source of a relay: tells what it was given, and ends."""

    def __init__(self) -> None:
        self.told: list[list[Heard] | Literal["connected"]] = []

    async def messages(self) -> AsyncIterator[list[Heard] | Literal["connected"]]:
        while self.told:
            yield self.told.pop(0)


class Reader:
    """What one client was told of one job, however often it came back."""

    def __init__(self, plan: Plan, relay: Relay) -> None:
        self.plan = plan
        self._relay = relay
        self._cursor = Cursor.start(plan.job_id, len(plan.lengths))
        self._subscription: Subscription | None = None
        self.tokens: list[list[int]] = [[] for _ in plan.lengths]
        self.is_finished = [False for _ in plan.lengths]
        self._marker = 0
        self.num_ends = 0
        #: The job is not there (any more).
        self.is_gone = False

    @property
    def is_over(self) -> bool:
        return self.is_gone or self.num_ends > 0

    async def connect(self) -> None:
        """Follow the job from where the last event was read, as `Last-Event-ID` says."""
        self.leave()
        cursor = Cursor.decode(self._cursor.encode(), self.plan.job_id, len(self.plan.lengths))
        self._subscription = self._relay.follow(self.plan.job_id, cursor)
        try:
            await self._relay.catch_up(self._subscription)
        except StreamExpired:
            self.is_gone = True

    def leave(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
        self._subscription = None

    def read(self) -> None:
        """Take all that is ready, and hold it against the plan."""
        if self._subscription is None or self.is_over:
            return
        try:
            news = self._subscription.take_ready()
        except StreamExpired:
            self.is_gone = True
            return
        for one in news:
            assert self.num_ends == 0, "something behind the end"
            self._note(one.event)
            self._cursor = one.cursor
            if one.is_end:
                self.num_ends += 1

    def _note(self, event: Any) -> None:
        if isinstance(event, ChoiceOutput):
            held = self.tokens[event.index]
            assert event.start == len(held), "a token was lost or repeated"
            assert not self.is_finished[event.index], "something behind a choice's end"
            held += event.token_ids
            assert held == self.plan.tokens(event.index)[: len(held)], "a token is another one"
            self.is_finished[event.index] = event.finish is not None
        elif type(event).__name__ in ("Completed", "Incomplete"):
            assert [len(held) for held in self.tokens] == list(self.plan.lengths)
            assert all(self.is_finished) and event.prompt_tokens == 3
        else:
            assert not isinstance(event, Failed) or event.error.code in ("worker_lost", "model_changed")
            assert not isinstance(event, Expired) or self.plan.deadlined == "expires"


class Replica:
    """One relay and its readers."""

    def __init__(
        self, store: JobStore, clock: Callable[[], float], pass_time: Callable[[float], None]
    ) -> None:
        self._mouth = _Mouth()
        self._pass_time = pass_time
        self._relay = Relay(store, self._mouth, grace_s=15, clock=clock)
        self._store = store
        self.readers: list[Reader] = []
        #: Published and not heard yet.
        self.under_way: deque[str] = deque()

    async def join(self, plan: Plan) -> None:
        reader = Reader(plan, self._relay)
        await reader.connect()
        self.readers.append(reader)

    async def hear(self, number: int) -> None:
        """So many of the messages arrive."""
        for _ in range(min(number, len(self.under_way))):
            self._mouth.told.append([Heard(*told) for told in json.loads(self.under_way.popleft())])
        await self._work()

    async def reconnect(self) -> None:
        """The subscription broke: what was under way is lost."""
        self.under_way.clear()
        self._mouth.told.append("connected")
        await self._work()

    async def notice_silence(self) -> None:
        """Nothing is heard for a while."""
        self._pass_time(SILENCE_S + 0.1)
        await self._work()

    async def renew(self) -> None:
        ids = [reader.plan.job_id for reader in self.readers if not reader.is_over]
        await self._store.renew_readers(ids, grace_s=0)

    async def _work(self) -> None:
        await self._relay.listen()
        try:
            # One round of Relay.look_after, without its waiting.
            await self._relay._look_up_silent()
            await self._relay._mend()
        except StoreUnavailable:
            return

    def read(self) -> None:
        for reader in self.readers:
            reader.read()

    def dismiss_gone(self) -> None:
        for reader in [reader for reader in self.readers if reader.is_gone]:
            reader.leave()
            self.readers.remove(reader)

    def close(self) -> None:
        for reader in self.readers:
            reader.leave()

"""Readers: clients of API replicas, through their real relays. What is published may be late or get lost."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Literal

import msgspec

from api.errors import StreamExpired
from api.streaming.cursor import Cursor
from api.streaming.pubsub_reader import Heard
from api.streaming.readership import Departure, Readership
from api.streaming.relay import SILENCE_S, Relay
from api.streaming.subscription import Subscription
from api.streaming.updates import Update
from shared.domain.events import Completed, Expired, Failed, Incomplete
from shared.domain.job import Accepted
from shared.domain.output import ChoiceOutput
from shared.domain.request_key import RequestKey
from shared.domain.wake_up import WakeUp
from shared.errors import KeyReused, StoreUnavailable
from tests.integration.shared.machine.faulty_store import Fault, FaultyStore
from tests.integration.shared.machine.plan import Plan

_HEARD = msgspec.json.Decoder(list[Heard])


class _Source:
    """Source of a relay: tells what it was given, and ends."""

    def __init__(self) -> None:
        self.told: list[list[Heard] | Literal["connected"]] = []

    async def messages(self) -> AsyncIterator[list[Heard] | Literal["connected"]]:
        while self.told:
            yield self.told.pop(0)


class _NoWakeUps:
    """Workers here claim by themselves."""

    async def send(self, wake_ups: list[WakeUp]) -> None:
        del wake_ups


class Client:
    """What one client was told of one job, however often it came back, to whichever replica."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._cursor = Cursor.start(plan.job_id, len(plan.lengths))
        self._subscription: Subscription | None = None
        self.tokens: list[list[int]] = [[] for _ in plan.lengths]
        self.is_finished = [False for _ in plan.lengths]
        self.num_ends = 0
        #: The job is not there (any more).
        self.is_gone = False

    @property
    def is_over(self) -> bool:
        return self.is_gone or self.num_ends > 0

    @property
    def is_connected(self) -> bool:
        return self._subscription is not None

    async def connect(self, replica: Replica) -> None:
        """Follow the job from where the last event was read, as `Last-Event-ID` says.

        Raises StoreUnavailable: the replica says so, and the client is not connected.
        """
        self.disconnect("ended")
        cursor = Cursor.decode(self._cursor.encode(), self.plan.job_id, len(self.plan.lengths))
        subscription = replica.relay.follow(self.plan.job_id, cursor)
        try:
            await replica.relay.catch_up(subscription)
            self._subscription = subscription
        except StreamExpired:
            self.is_gone = True
            subscription.close()
        except StoreUnavailable:
            subscription.close()
            raise

    async def create(self, replica: Replica, key: RequestKey | None, fault: Fault) -> Accepted:
        """Ask for the job; the request is repeated once when its answer is lost. Raises KeyReused."""
        subscription = replica.relay.follow(self.plan.job_id, self._cursor)
        new = replace(self.plan.new_job(), key=key)
        try:
            with replica.relay.creating(subscription):
                replica.store.fault = fault
                try:
                    accepted = await replica.store.create(new, reader=subscription.reader)
                except StoreUnavailable:
                    accepted = await replica.store.create(new, reader=subscription.reader)
        except KeyReused:
            subscription.close()
            raise
        if accepted.is_replay:
            subscription.close()
        else:
            self._subscription = subscription
        return accepted

    def disconnect(self, departure: Departure) -> None:
        if self._subscription is not None:
            self._subscription.close(departure)
        self._subscription = None

    def lose_connection(self) -> None:
        """The replica died."""
        self._subscription = None

    def read(self) -> None:
        """Take all that is ready, and compare it with the plan."""
        if self._subscription is None or self.is_over:
            return
        try:
            updates = self._subscription.take_ready()
        except StreamExpired:
            self.is_gone = True
            return
        for update in updates:
            assert self.num_ends == 0, "something behind the end"
            self._note(update)
            self._cursor = update.cursor
            if update.is_end:
                self.num_ends += 1

    def _note(self, update: Update) -> None:
        event = update.event
        if isinstance(event, ChoiceOutput):
            known = self.tokens[event.index]
            assert event.start == len(known), "a token was lost or repeated"
            assert not self.is_finished[event.index], "something behind a choice's end"
            known += event.token_ids or ()
            assert known == self.plan.tokens(event.index)[: len(known)], "a token is another one"
            self.is_finished[event.index] = event.finish is not None
        elif isinstance(event, Completed | Incomplete):
            assert [len(known) for known in self.tokens] == list(self.plan.lengths)
            assert all(self.is_finished) and update.used == self.plan.used
        else:
            assert not isinstance(event, Failed) or event.error.code in ("worker_lost", "model_changed")
            assert not isinstance(event, Expired) or self.plan.deadlined == "expires"


class Replica:
    """One API replica through all its lives: a relay, a readership, and the clients that are connected to it."""

    def __init__(
        self, name: str, store: FaultyStore, clock: Callable[[], float], pass_time: Callable[[float], None]
    ) -> None:
        self.store = store
        self._name = name
        self._clock = clock
        self._pass_time = pass_time
        self._num_lives = 0
        self.clients: list[Client] = []
        self._start()

    @property
    def name(self) -> str:
        """Under which the store knows it."""
        return self._readership.replica

    @property
    def reads(self) -> Mapping[str, int]:
        return self._readership.reads

    def _start(self) -> None:
        self._num_lives += 1
        self._source = _Source()
        self._readership = Readership(self.store, _NoWakeUps(), clock=self._clock)
        self._readership.replica = f"{self._name}.{self._num_lives}"
        self.relay = Relay(self.store, self._source, self._readership, clock=self._clock)
        #: Published and not heard yet.
        self.under_way: deque[str] = deque()

    def die(self) -> None:
        """kill -9, and a new process. Clients come back by and by."""
        for client in self.clients:
            client.lose_connection()
        self._start()

    async def join(self, plan: Plan) -> None:
        """Another client reads this job."""
        client = Client(plan)
        self.clients.append(client)
        await client.connect(self)

    def take_over(self, client: Client, other: Replica) -> None:
        """A client of another replica comes to this one."""
        other.clients.remove(client)
        self.clients.append(client)

    def leave(self, client: Client, departure: Departure) -> None:
        """It disconnects; where it `left`, for good."""
        client.disconnect(departure)
        if departure == "left":
            self.clients.remove(client)

    async def beat(self) -> None:
        await self._readership.beat()

    async def flush(self) -> None:
        await self._readership.flush()

    async def hear(self, number: int) -> None:
        """So many of the messages arrive."""
        for _ in range(min(number, len(self.under_way))):
            self._source.told.append(_HEARD.decode(self.under_way.popleft()))
        await self._work()

    async def reconnect(self) -> None:
        """The subscription broke: what was under way is lost."""
        self.under_way.clear()
        self._source.told.append("connected")
        await self._work()

    async def notice_silence(self) -> None:
        """Nothing is heard for a while."""
        self._pass_time(SILENCE_S + 0.1)
        await self._work()

    async def _work(self) -> None:
        await self.relay.listen()
        try:
            # One round of Relay.look_after, without its waiting.
            await self.relay._look_up_silent()
            await self.relay._mend()
        except StoreUnavailable:
            return

    def read(self) -> None:
        for client in self.clients:
            client.read()

    def dismiss_gone(self) -> None:
        for client in [client for client in self.clients if client.is_gone]:
            client.disconnect("ended")
            self.clients.remove(client)

    def close(self) -> None:
        for client in self.clients:
            client.disconnect("ended")


def told(data: str) -> set[tuple[str, str]]:
    """Job and stream id of each entry of a message."""
    return {(job_id, stream_id) for job_id, stream_id, *_ in json.loads(data)}

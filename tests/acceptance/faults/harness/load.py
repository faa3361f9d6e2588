"""Load: random requests from a seed, and slots that keep a fixed number of them running."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.acceptance.faults.harness.clients import Client
from tests.acceptance.faults.verdict.history import Ask, History, Kind

#: How often each way of asking is drawn.
WEIGHTS: dict[Kind, int] = {
    "streamed": 8, "events": 4, "polled": 3, "whole": 3, "waited": 2, "late": 1, "cancelled": 3,
    "abandoned": 2,
}  # fmt: skip

#: How many times as patient clients are while faults go on.
_AMID_FAULTS = 5


@dataclass(frozen=True)
class Shape:
    """What requests may look like."""

    #: Tokens of an answer, least and most.
    tokens: tuple[int, int] = (20, 400)
    #: Seeds that are drawn from, of answers that were recorded, all to one prompt; None: any.
    seeds: Sequence[int] | None = None
    #: Most choices.
    n: int = 3
    #: Answers a stop string that the answer to this seed has, or None.
    stop_for: Callable[[int], str | None] = lambda _: None


def draw(rng: random.Random, shape: Shape, kind: Kind | None = None) -> Ask:
    """A request."""
    kind = kind or rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    seed = rng.choice(shape.seeds) if shape.seeds is not None else rng.randrange(2**40)
    wanted = rng.randint(*shape.tokens)
    is_limited = shape.seeds is not None or rng.random() < 0.3
    n = 1 if kind in ("whole", "waited") else rng.choice([1, 1, 1, min(2, shape.n), shape.n])
    return Ask(
        kind=kind,
        seed=seed,
        length=wanted if shape.seeds is None else shape.tokens[1],
        max_tokens=max(1, wanted // 2) if is_limited else shape.tokens[1],
        n=n,
        stop=shape.stop_for(seed) if rng.random() < 0.3 else None,
        leaves_after=rng.randint(1, wanted) if kind in ("cancelled", "abandoned") else 0,
    )


class Load:
    """Keeps `slots` clients asking until told to stop."""

    def __init__(
        self, urls: Sequence[str], model: str, shape: Shape, *, seed: int, slots: int, patience_s: float
    ) -> None:
        self._urls = urls
        self._model = model
        self._shape = shape
        self._patience_s = patience_s
        self._is_stopping = False
        self._asking: set[Client] = set()
        #: Of all clients, also those that still read.
        self.histories: list[History] = []
        self._slots = [
            asyncio.create_task(self._keep_asking(random.Random(f"{seed}/{slot}"))) for slot in range(slots)
        ]

    async def _keep_asking(self, rng: random.Random) -> None:
        while not self._is_stopping:
            client = Client(draw(rng, self._shape), self._urls, self._model, rng)
            self.histories.append(client.history)
            self._asking.add(client)
            await client.run(_AMID_FAULTS * self._patience_s)
            self._asking.discard(client)

    async def finish(self) -> list[History]:
        """Ask no more; what every client was told, once the last has its answer or was patient for long.

        Patience counts from here, as faults are over: while they went on a job took its time.
        """
        self._is_stopping = True
        for client in self._asking:
            client.give_up_in(self._patience_s)
        await asyncio.gather(*self._slots)
        return self.histories


async def ask_all(
    asks: Sequence[Ask], urls: Sequence[str], model: str, *, within_s: float = 60
) -> list[History]:
    """Ask these at once; what each was told."""
    clients = [Client(ask, urls, model, random.Random(number)) for number, ask in enumerate(asks)]
    return list(await asyncio.gather(*(client.run(within_s) for client in clients)))

"""Drops 24 streams at once: how soon their slots are free, what a neighbour notices, and whether anything is lost.

The rival is the same system with `x-on-disconnect: continue`, where dropped streams run on. Both take turns. Then the
dropped streams are read to their ends, at two replicas in turn, and compared with undisturbed answers.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

from bench.harness.spread import spread
from tests.acceptance.sse import Answer, Block
from tests.acceptance.system import System

CHAT = "/v1/chat/completions"
NUM_STREAMS = 24
NUM_TOKENS = 500
#: Seconds of the neighbour's stream that are measured before and after the drop.
WINDOW_S = 3.0
How = Literal["pause", "continue", "abort"]


@dataclass(frozen=True)
class Figures:
    """One round."""

    #: From the first closed connection until the worker has the neighbour alone.
    free_s: float
    #: Tokens per second of the neighbour, before and after the drop.
    before: float
    after: float


class Stream:
    """One streamed chat."""

    def __init__(self, http: httpx.AsyncClient, response: httpx.Response) -> None:
        self._http = http
        self._response = response
        # One iterator for all reads: httpx closes the connection when an unfinished iterator is dropped.
        self._lines = response.aiter_lines()
        self.blocks: list[Block] = []
        self.times: list[float] = []

    @classmethod
    async def open(cls, stack: AsyncExitStack, url: str, number: int, *, tokens: int, how: How) -> Stream:
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=120, trust_env=False))
        request = http.build_request(
            "POST", CHAT, json=body(number, tokens), headers={"x-on-disconnect": how}
        )
        return cls(http, await http.send(request, stream=True))

    async def read(self, num: int | None = None) -> None:
        """Read this many events, or all."""
        fields: dict[str, str] = {}
        async for line in self._lines:
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields and not line:
                self.blocks.append(Block(fields.get("id"), fields.get("event"), fields["data"]))
                self.times.append(time.perf_counter())
                fields = {}
                if num is not None and len(self.blocks) >= num:
                    return

    async def close(self) -> None:
        await self._response.aclose()
        await self._http.aclose()

    async def resume(self, url: str) -> Answer:
        """The whole answer: what was read, and the rest from a replica."""
        chat_id = self.blocks[0].json["id"]
        async with httpx.AsyncClient(base_url=url, timeout=300, trust_env=False) as http:
            headers = {"last-event-id": self.blocks[-1].id or ""}
            request = http.build_request("GET", f"{CHAT}/{chat_id}/events", headers=headers)
            rest = Stream(http, await http.send(request, stream=True))
            await rest.read()
            await rest.close()
        return Answer.of([*self.blocks, *rest.blocks])


def body(number: int, tokens: int) -> dict[str, Any]:
    text = f"Count from {number} upwards, one number after the other, and do not stop."
    return {
        "model": "tiny", "messages": [{"role": "user", "content": text}], "max_tokens": tokens, "temperature": 0,
        "ignore_eos": True, "stream": True, "stream_options": {"include_usage": True},
    }  # fmt: skip


async def one_round(system: System, how: How, first: int) -> tuple[Figures, list[Stream]]:
    """Opens a neighbour's stream and the others, drops the others, and measures."""
    async with AsyncExitStack() as stack:
        neighbour = await Stream.open(stack, system.urls[0], first, tokens=4000, how="abort")
        reading = asyncio.create_task(neighbour.read())
        streams = [
            await Stream.open(stack, system.urls[0], first + number, tokens=NUM_TOKENS, how=how)
            for number in range(1, NUM_STREAMS + 1)
        ]
        await asyncio.gather(*(stream.read(5) for stream in streams))
        await asyncio.sleep(WINDOW_S)
        dropped_at = time.perf_counter()
        await asyncio.gather(*(stream.close() for stream in streams))
        free_s = await until_alone(system, dropped_at) if how == "pause" else float("nan")
        await asyncio.sleep(max(0.0, dropped_at + WINDOW_S - time.perf_counter()))
        reading.cancel()
        await neighbour.close()
    before = sum(dropped_at - WINDOW_S < at < dropped_at for at in neighbour.times) / WINDOW_S
    after = sum(dropped_at < at < dropped_at + WINDOW_S for at in neighbour.times) / WINDOW_S
    return Figures(free_s, before, after), streams


async def until_alone(system: System, since: float) -> float:
    async with httpx.AsyncClient(base_url=system.urls[1], trust_env=False) as http:
        while True:
            (worker,) = (await http.get("/v1/workers")).json()["data"]
            if worker["jobs"] == 1:
                return time.perf_counter() - since
            await asyncio.sleep(0.005)


async def until_idle(system: System) -> None:
    async with httpx.AsyncClient(base_url=system.urls[1], trust_env=False) as http:
        while (await http.get("/v1/workers")).json()["data"][0]["jobs"]:
            await asyncio.sleep(0.05)


async def idle_cpu(system: System) -> float:
    """CPU seconds a second of all processes together."""
    processes = system.processes()

    def spent() -> float:
        return sum(sum(process.cpu_times()[:2]) for process in processes if process.is_running())

    before = spent()
    await asyncio.sleep(2)
    return (spent() - before) / 2


async def undisturbed(system: System, number: int) -> Answer:
    async with httpx.AsyncClient(base_url=system.urls[0], timeout=300, trust_env=False) as http:
        answer = await http.post(
            CHAT, json={**body(number, NUM_TOKENS), "stream": False, "stream_options": None}
        )
    return Answer.of_completion(answer.json())


async def measure(system: System, rounds: int, wait_s: float) -> None:
    figures: dict[How, list[Figures]] = {"pause": [], "continue": []}
    dropped: list[tuple[int, Stream]] = []
    print(f"CPU seconds a second without work: {await idle_cpu(system):.2f}")
    hows: tuple[How, ...] = ("pause", "continue")
    for number in range(rounds):
        for how in hows:
            first = 1000 * number + 1
            found, streams = await one_round(system, how, first)
            figures[how].append(found)
            if how == "pause":
                dropped += [(first + index, stream) for index, stream in enumerate(streams, 1)]
            await until_idle(system)
    print(f"CPU seconds a second, {len(dropped)} paused: {await idle_cpu(system):.2f}")
    for how, rows in figures.items():
        ratio = spread([row.after / row.before for row in rows])
        print(f"{how:>9}: neighbour's tokens/s before {spread([row.before for row in rows], 1)}, "
              f"after {spread([row.after for row in rows], 1)}, after / before {ratio}")  # fmt: skip
    print(f"slots free after {spread([row.free_s for row in figures['pause']])} s")
    gain = [p.after / c.after for p, c in zip(figures["pause"], figures["continue"], strict=True)]
    print(f"neighbour after the drop, pause / continue: {spread(gain)}")
    await asyncio.sleep(wait_s)
    answers = await asyncio.gather(
        *(stream.resume(system.urls[index % 2]) for index, (_, stream) in enumerate(dropped[-NUM_STREAMS:]))
    )
    wanted = await asyncio.gather(*(undisturbed(system, number) for number, _ in dropped[-NUM_STREAMS:]))
    equal = sum(
        (a.texts, a.finish, a.usage) == (w.texts, w.finish, w.usage)
        for a, w in zip(answers, wanted, strict=True)
    )
    print(
        f"continued after {wait_s:g} s at two replicas: {equal} of {len(answers)} equal to the undisturbed answer"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path(".baton/models/SmolLM2-135M-Instruct"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--wait", type=float, default=1.0, help="seconds before the dropped streams are continued"
    )
    options = parser.parse_args()
    system = System(options.model.absolute(), DTYPE="auto", THREADS="")
    try:
        system.start()
        asyncio.run(measure(system, options.rounds, options.wait))
    finally:
        system.remove()


if __name__ == "__main__":
    main()

"""Clients: each asks once, in one of the ways that Baton offers, and reads on at any replica after a cut."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.acceptance.faults.harness.http import Answer, Reading, Unreachable, fetch, opened
from tests.acceptance.faults.harness.reader import Blocks, Reader
from tests.acceptance.faults.verdict.history import Ask, History

#: A connection on which not even a ping comes for this long is given up.
_SILENCE_S = 5.0
_RETRY_S = (0.05, 0.25)
_BUSY = (429, 502, 503, 504)
#: What is answered for a job that Redis lost, or that it set back behind the place of its reader.
_GONE = ("job_not_found", "stream_expired", "invalid_event_id")


class Refused(Exception):
    """Raised when a client is told that there is no job: nobody serves the model, or Redis lost it."""


class Client:
    """One request. `run` fills its history; one that has no answer by its deadline counts as hung."""

    def __init__(self, ask: Ask, urls: Sequence[str], model: str, rng: random.Random) -> None:
        self.history = History(ask, time.monotonic())
        self._ask = ask
        self._urls = urls
        self._model = model
        self._random = rng
        self._key = {"idempotency-key": secrets.token_hex(12)}
        self._reader = Reader(self.history)
        self._deadline = asyncio.timeout(None)

    def give_up_in(self, within_s: float) -> None:
        """Set the deadline, or an earlier one; while it runs."""
        deadline = asyncio.get_running_loop().time() + within_s
        self._deadline.reschedule(min(deadline, self._deadline.when() or deadline))

    async def run(self, within_s: float) -> History:
        """Ask and read to the end."""
        ways: dict[str, Callable[[], Any]] = {
            "streamed": self._stream,
            "abandoned": self._stream,
            "events": self._follow,
            "cancelled": self._follow,
            "polled": self._poll,
            "whole": self._whole,
            "waited": self._wait,
            "late": self._come_late,
        }
        try:
            async with self._deadline:
                self.give_up_in(within_s)
                await ways[self._ask.kind]()
        except TimeoutError:
            self.history.is_hung = True
        except Refused:
            self.history.has_left = True
        return self.history

    # The ways

    async def _stream(self) -> None:
        body = {**self._body(), "stream": True, "stream_options": {"include_usage": True}}
        while not self._is_done():
            if self.history.job_id is None or self._reader.last_id is None:
                await self._read("POST", "/v1/chat/completions", body, self._key)
            else:
                path = f"/v1/chat/completions/{self.history.job_id.replace('job_', 'chatcmpl-')}/events"
                await self._read("GET", path, None, {"last-event-id": self._reader.last_id})

    async def _follow(self) -> None:
        await self._submit()
        while not self._is_done():
            last_id = {} if self._reader.last_id is None else {"last-event-id": self._reader.last_id}
            await self._read("GET", f"/v1/jobs/{self.history.job_id}/events", None, last_id)

    async def _poll(self) -> None:
        await self._submit()
        headers = {"accept": "application/json"}
        while not self._is_done():
            after = f"&after={self._reader.last_id}" if self._reader.last_id else ""
            path = f"/v1/jobs/{self.history.job_id}/events?wait=2{after}"
            answer = await self._ask_until_answered("GET", path, None, headers)
            if self._is_gone(answer):
                return
            for item in answer.json["events"]:
                self._reader.item(item["id"], item["event"], item["data"])
            self._reader.last_id = answer.json["cursor"]

    async def _whole(self) -> None:
        answer = await self._ask_until_answered("POST", "/v1/chat/completions", self._body(), self._key)
        self._accepted(answer)
        if not self._is_gone(answer):
            self._reader.answer(answer.json)

    async def _wait(self) -> None:
        await self._submit()
        job = await self._until_over()
        if job is None:
            return
        if job["result"] is not None:
            self._reader.answer(job["result"])
        else:
            self.history.complaints.append(f"ended {job['status']}: {job['error']}")

    async def _come_late(self) -> None:
        await self._submit()
        if await self._until_over() is not None:
            while not self._is_done():
                last_id = {} if self._reader.last_id is None else {"last-event-id": self._reader.last_id}
                await self._read("GET", f"/v1/jobs/{self.history.job_id}/events", None, last_id)

    # Their parts

    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": "user", "content": f"count to {self._ask.length}"}],
            "seed": self._ask.seed,
            "temperature": 1.0,
            "max_tokens": self._ask.max_tokens,
            "n": self._ask.n,
        }
        return body if self._ask.stop is None else {**body, "stop": self._ask.stop}

    async def _submit(self) -> None:
        asked = {"endpoint": "/v1/chat/completions", "body": self._body()}
        answer = await self._ask_until_answered("POST", "/v1/jobs", asked, self._key)
        if self._is_gone(answer):
            raise Refused
        self._accepted(answer)

    async def _until_over(self) -> dict[str, Any] | None:
        while True:
            path = f"/v1/jobs/{self.history.job_id}?wait=3"
            answer = await self._ask_until_answered("GET", path, None, {})
            if self._is_gone(answer):
                return None
            job: dict[str, Any] = answer.json
            if job["completed_at"] is not None:
                return job

    def _is_done(self) -> bool:
        return self._reader.is_over or self.history.has_left

    async def _read(self, method: str, path: str, body: Any, headers: dict[str, str]) -> None:
        """One connection's worth of a stream."""
        url = self._random.choice(self._urls)
        self.history.reads_from = url
        try:
            async with opened(method, url, path, body=body, headers=headers, within_s=15) as reading:
                if reading.answer.status == 200:
                    self._accepted(reading.answer)
                    await self._read_blocks(reading)
                    if not self._is_done():
                        self.history.complaints.append("an unfinished stream ended cleanly")
                else:
                    await self._not_a_stream(await reading.whole(5))
        except Unreachable:
            self.history.num_resumed += 1
            await self._pause()

    async def _read_blocks(self, reading: Reading) -> None:
        blocks = Blocks()
        async for piece in reading.pieces(_SILENCE_S):
            for event_id, event, data in blocks.feed(piece):
                if self._reader.is_over:
                    self.history.complaints.append(f"after the end came {event} {data[:60]}")
                self._reader.block(event_id, event, data)
                if self._ask.leaves_after and self._reader.num_tokens >= self._ask.leaves_after:
                    if self._ask.kind == "abandoned" and not self._reader.is_over:
                        self.history.has_left = True
                        return reading.abandon()
                    if self._ask.kind == "cancelled" and not self._is_cancelled:
                        self._cancelling = asyncio.create_task(self._cancel())

    _cancelling: asyncio.Task[None] | None = None

    @property
    def _is_cancelled(self) -> bool:
        return self._cancelling is not None

    async def _cancel(self) -> None:
        await self._ask_until_answered("POST", f"/v1/jobs/{self.history.job_id}/cancel", None, {})

    async def _not_a_stream(self, answer: Answer) -> None:
        if answer.status == 204:
            self.history.complaints.append("204 before the end was read")
            self._reader.is_over = True
        elif answer.status in _BUSY:
            self._check_refusal(answer)
            await self._pause()
        else:
            self._is_gone(answer)

    async def _ask_until_answered(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        """Ask any replica until one answers with more than "not now"."""
        while True:
            try:
                answer = await fetch(
                    method, self._random.choice(self._urls), path, body=body, headers=headers, within_s=20
                )
            except Unreachable:
                await self._pause()
                continue
            if answer.status not in _BUSY:
                return answer
            self._check_refusal(answer)
            await self._pause()

    def _check_refusal(self, answer: Answer) -> None:
        self.history.num_refused += 1
        self.history.num_without_retry_after += "retry-after" not in answer.headers
        if answer.json["error"]["code"] == "no_worker":
            raise Refused

    def _accepted(self, answer: Answer) -> None:
        job_id = answer.headers.get("x-job-id")
        if job_id is None:
            return
        if self.history.job_id is None:
            self.history.job_id, self.history.accepted_at = job_id, time.monotonic()
        elif self.history.job_id != job_id:
            self.history.other_jobs.append(job_id)

    def _is_gone(self, answer: Answer) -> bool:
        """Whether nothing more will come of the job."""
        if answer.status in (200, 202):
            return False
        code = str(answer.json["error"]["code"])
        if code not in _GONE:
            self.history.complaints.append(f"{answer.status} {answer.body[:200]!r}")
        self._reader.lost(f"{answer.status} {code}")
        return True

    async def _pause(self) -> None:
        await asyncio.sleep(self._random.uniform(*_RETRY_S))

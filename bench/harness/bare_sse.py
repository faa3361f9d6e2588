"""The rival of bench.relay: a minimal ASGI server that forwards Redis messages as server-sent events.

It has no cursors, no deduplication, no replay and no API keys. A lost message stays lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

import uvicorn
from redis.asyncio import Redis

from shared.store import keys
from shared.store.job_store import JobStore, Reader
from shared.store.redis_client import connect

#: The channel on which the scripts publish for this server.
REPLICA = "bare"
_HEADERS = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]


class BareServer:
    """GET /<job id> streams a job's output until it ends. GET /metrics reports the number of readers."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._store = JobStore(redis)
        self._joining = asyncio.Semaphore(16)
        self._is_listening = asyncio.Event()
        self._readers: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._listener: asyncio.Task[None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen())
        await self._is_listening.wait()
        await receive()
        if scope["path"] == "/metrics":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            text = f"baton_subscriptions {len(self._readers)}.0\n".encode()
            await send({"type": "http.response.body", "body": text})
            return
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        job_id = scope["path"][1:]
        async with self._joining:  # fewer at once than the client has connections
            await self._store.join(job_id, Reader(REPLICA, 1))
        self._readers[job_id] = queue  # counted once its output arrives here
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        while True:
            event = await queue.get()
            is_over = event["type"] != "output"
            body = b"data: [DONE]\n\n" if is_over else _chunk(job_id, event)
            await send({"type": "http.response.body", "body": body, "more_body": not is_over})
            if is_over:
                return

    async def _listen(self) -> None:
        await self._store.register_replica(REPLICA)
        pubsub = self._redis.pubsub()
        await pubsub.subscribe(keys.channel(REPLICA))
        self._is_listening.set()
        while True:
            message = await pubsub.get_message(timeout=5)
            if message is None or message["type"] != "message":
                continue
            for job_id, _, _, _, event in json.loads(message["data"]):
                if job_id in self._readers and event["type"] not in ("queued", "started"):
                    self._readers[job_id].put_nowait(event)


def _chunk(job_id: str, event: dict[str, Any]) -> bytes:
    choices = [
        {"index": choice[0], "delta": {"content": "".join(choice[3])}, "finish_reason": choice[4]}
        for choice in event["choices"]
    ]
    chunk = {"id": job_id, "object": "chat.completion.chunk", "created": 0, "model": "bench"}
    return b"data: " + json.dumps({**chunk, "choices": choices}).encode() + b"\n\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    app = BareServer(connect(options.redis, timeout_s=30))
    uvicorn.run(app, port=options.port, loop="uvloop", http="httptools", log_level="warning", lifespan="off")


if __name__ == "__main__":
    main()

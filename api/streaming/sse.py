"""Server-sent events, to the byte (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Stock OpenAI clients crash on a block without data once `id:` lines are on: so every blank line that is
sent ends a block with data, a ping is a comment line inside the next block, and `retry:` rides in the
first block.
"""

from __future__ import annotations

#: Keeps the connection alive; no blank line follows it.
PING = b": ping\n"
#: How soon a browser comes back, in the first block of a stream.
RETRY = b"retry: 1000\n"

HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


def block(data: str, event_id: str, event: str | None = None) -> str:
    """One event. `data` is one line (JSON escapes line ends), `event_id` an encoded cursor."""
    name = "" if event is None else f"event: {event}\n"
    return f"id: {event_id}\n{name}data: {data}\n\n"

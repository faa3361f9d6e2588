"""Server-sent events, to the byte (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Stock OpenAI clients crash on a block without data once they have seen an `id:` line. So each blank line that is sent
ends a block with data, a ping is a comment line within the next block, and `retry:` is a line of the first block.
"""

from __future__ import annotations

from api.dialects.base import Block
from api.streaming.queue_position import QueuePosition

#: Keeps the connection alive; no blank line follows it.
PING = b": ping\n"
#: How soon an EventSource reconnects, in the first block of a stream that it can reconnect to.
RETRY = b"retry: 1000\n"

HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",
}


def queue_comment(position: QueuePosition) -> bytes:
    """A comment with a job's queue position. No blank line follows it, as with a ping."""
    eta = "" if position.eta_seconds is None else f" eta_seconds={position.eta_seconds}"
    return f": queued position={position.position}{eta}\n".encode()


def frame(block: Block) -> bytes:
    """One event. Its data is one line, because JSON escapes line ends."""
    if block.event is None:
        return f"id: {block.id}\ndata: {block.data}\n\n".encode()
    return f"id: {block.id}\nevent: {block.event}\ndata: {block.data}\n\n".encode()

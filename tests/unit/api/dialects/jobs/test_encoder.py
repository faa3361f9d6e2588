"""A job's events by name, the same as SSE and as JSON."""

from __future__ import annotations

from api.dialects.jobs.encoder import JobEventEncoder, items_json
from api.dialects.openai_chat.encoder import ChatEncoder
from api.streaming.cursor import Cursor
from api.streaming.queue_position import QueuePosition
from api.streaming.updates import Update
from shared.domain.events import Cancelled, Entry, Failed, Output, Queued, Requeued, Resumed, Started
from shared.domain.usage import Usage
from shared.errors import ErrorInfo
from tests.unit.api.streams import JOB_ID, blocks, framed, job_info, output, read_all

START = Cursor.start(JOB_ID, 1)
ENTRIES = [
    Entry("1-0", (0,), Queued()),
    Entry("2-0", (0,), Started("w-1")),
    Entry("2-1", (1,), Output((output(0, 0, "a"),))),
    Entry("3-0", (1,), Requeued("drain")),
    Entry("4-0", (1,), Resumed("w-2", 2)),
    Entry("4-1", (1,), Failed(ErrorInfo("no", code="worker_lost")), Usage(7, 1)),
]


def encoder() -> JobEventEncoder:
    return JobEventEncoder(job_info(), ChatEncoder(job_info(), START, usage_in="nothing"))


def life(kind: str, **fields: object) -> dict[str, object]:
    return {"id": JOB_ID, "object": "job.event", "type": kind, **fields}


async def test_every_event_has_its_name_and_data() -> None:
    found = blocks(framed(await encoder().encode(read_all(ENTRIES, START))))
    error = {"message": "no", "type": "server_error", "param": None, "code": "worker_lost"}
    usage = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
    assert [(block.event, block.json) for block in found if block.event != "job.output"] == [
        ("job.queued", life("queued")),
        ("job.started", life("started", worker="w-1")),
        ("job.requeued", life("requeued", reason="drain")),
        ("job.resumed", life("resumed", worker="w-2", attempt=2, exact=False)),
        ("job.failed", life("failed", error=error, usage=usage)),
    ]
    (chunk,) = [block.json for block in found if block.event == "job.output"]
    assert chunk["object"] == "chat.completion.chunk"
    assert chunk["choices"][0]["delta"] == {"role": "assistant", "content": "a"}


async def test_polling_tells_the_same() -> None:
    updates = read_all(ENTRIES, START)
    items = items_json(await encoder().encode(updates))
    told = [(block.id, block.event, block.json) for block in blocks(framed(await encoder().encode(updates)))]
    assert [(item["id"], item["event"], item["data"]) for item in items] == told


async def test_a_position_in_the_queue_is_a_queued_event_at_the_same_cursor() -> None:
    (first,) = read_all(ENTRIES[:1], START)
    position = Update(QueuePosition(3, None), first.cursor)
    found = blocks(framed(await encoder().encode([first, position])))
    assert found[1].json == life("queued", queue_position=3, eta_seconds=None)
    assert (found[1].event, found[1].id) == ("job.queued", found[0].id)


async def test_reasons_of_a_newer_version_are_shown_as_they_are() -> None:
    entries = [*ENTRIES[:2], Entry("3-0", (0,), Cancelled("bored"))]
    found = await encoder().encode(read_all(entries, START))
    assert '"reason":"bored"' in found[-1].data

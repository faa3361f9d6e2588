"""A job's events by name, the same as SSE and as JSON."""

from __future__ import annotations

from api.dialects.jobs.event_view import JobEventView
from api.jobs.queue_position import QueuePosition
from api.streaming.cursor import Cursor
from api.streaming.updates import Update
from shared.domain.events import Entry, Failed, Output, Queued, Requeued, Resumed, Started
from shared.errors import ErrorInfo
from tests.unit.api.streams import JOB_ID, blocks, job_info, output, read_all

ENTRIES = [
    Entry("1-0", (0,), Queued()),
    Entry("2-0", (0,), Started("w-1")),
    Entry("2-1", (1,), Output((output(0, 0, "a"),))),
    Entry("3-0", (1,), Requeued("drain")),
    Entry("4-0", (1,), Resumed("w-2", 2)),
    Entry("4-1", (1,), Failed(ErrorInfo("no", code="worker_lost"), 7)),
]


def life(kind: str, **fields: object) -> dict[str, object]:
    return {"id": JOB_ID, "object": "job.event", "type": kind, **fields}


def test_every_event_has_its_name_and_data() -> None:
    found = blocks(JobEventView(job_info()).encode(read_all(ENTRIES, Cursor.start(JOB_ID, 1))))
    error = {"message": "no", "type": "server_error", "param": None, "code": "worker_lost"}
    usage = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
    assert [(block.event, block.json) for block in found if block.event != "job.output"] == [
        ("job.queued", life("queued")),
        ("job.started", life("started", worker="w-1")),
        ("job.requeued", life("requeued", reason="drain")),
        ("job.resumed", life("resumed", worker="w-2", attempt=2, exact=False)),
        ("job.failed", life("failed", error=error, usage=usage)),
    ]
    outputs = [block.json for block in found if block.event == "job.output"]
    assert [chunk["choices"][0]["delta"]["content"] for chunk in outputs] == ["a"]


def test_polling_tells_the_same() -> None:
    news = read_all(ENTRIES, Cursor.start(JOB_ID, 1))
    items = JobEventView(job_info()).items(news)
    told = [(block.id, block.event, block.json) for block in blocks(JobEventView(job_info()).encode(news))]
    assert [(item["id"], item["event"], item["data"]) for item in items] == told


def test_a_place_is_a_queued_event_at_the_same_cursor() -> None:
    (first,) = read_all(ENTRIES[:1], Cursor.start(JOB_ID, 1))
    place = Update(QueuePosition(3, None), first.cursor, 0)
    found = blocks(JobEventView(job_info()).encode([first, place]))
    assert found[1].json == life("queued", queue_position=3, eta_seconds=None)
    assert (found[1].event, found[1].id) == ("job.queued", found[0].id)

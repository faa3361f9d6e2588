"""Versions side by side: what crosses processes is read with what a later version adds to it, and without
what an earlier one did not write. Texts are as they stand in Redis: who changes one breaks mixed sites."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.http.idempotency import comparable
from api.streaming.cursor import ChoiceCursor, Cursor
from shared.domain.events import (
    Cancelled,
    Completed,
    Event,
    Expired,
    Failed,
    Incomplete,
    Output,
    Queued,
    Requeued,
    Resumed,
    Started,
    Unknown,
    decode_entry,
    decode_event,
    encode_event,
)
from shared.domain.fingerprint import Fingerprint
from shared.domain.job import Job
from shared.domain.lease import WorkerState
from shared.domain.output import (
    Args,
    Candidate,
    ChoiceOutput,
    Close,
    Data,
    Finish,
    Head,
    Op,
    Open,
    Reasoning,
    Refusal,
    Text,
    TokenLogprobs,
)
from shared.domain.prompt_logprobs import PromptLogprobs, PromptToken
from shared.domain.usage import Usage
from shared.domain.worker_report import WorkerReport
from shared.errors import ErrorInfo
from shared.store.append import AppendAnswer

ERROR = '{"message":"m","type":"t","param":null,"code":"c","status":400}'
CANDIDATE = Candidate(5, b"\xc3", -0.5)
HEAD = '[1,"text",0,3,9]'
MARKS = (
    '{"0":[["close"],["reasoning","hm"],["text","a"],["refusal","no"]],'
    '"1":[["open","f","call_1"],["args","{}"],["data","signature","x"]]}'
)
OPS: dict[int, tuple[Op, ...]] = {
    0: (Close(), Reasoning("hm"), Text("a"), Refusal("no")),
    1: (Open("f", "call_1"), Args("{}"), Data("signature", "x")),
}
EVENTS: dict[str, Event] = {
    '{"type":"queued"}': Queued(),
    '{"type":"started","worker":"w"}': Started("w"),
    '{"type":"resumed","worker":"w","attempt":2,"exact":true}': Resumed("w", 2, True),
    '{"type":"requeued","reason":"drain"}': Requeued("drain"),
    f'{{"type":"output","choices":[[0,4,[5],["a"],["stop","\\n"],null,{HEAD},null,null]]}}': Output(
        (ChoiceOutput(0, 4, (5,), ("a",), Finish("stop", "\n"), None, Head(1, "text", 0, 3, 9)),)
    ),
    f'{{"type":"output","choices":[[0,4,[5],[""],null,[[[5,"ww==",-0.5],[]]],{HEAD},null,null]]}}': Output(
        (ChoiceOutput(0, 4, (5,), ("",), None, (TokenLogprobs(CANDIDATE, ()),), Head(1, "text", 0, 3, 9)),)
    ),
    f'{{"type":"output","choices":[[0,4,null,["",""],null,null,{HEAD},{MARKS},null]]}}': Output(
        (ChoiceOutput(0, 4, None, ("", ""), None, None, Head(1, "text", 0, 3, 9), OPS),)
    ),
    '{"type":"output","choices":[[0,0,[5],["a"],null,null,[0,null,0,0,0],null,'
    '{"tokens":[[7,-0.5,2,[[6,-0.25]]]],"texts":{"7":"b","6":"c"}}]]}': Output(
        (
            ChoiceOutput(
                0,
                0,
                (5,),
                ("a",),
                prompt_logprobs=PromptLogprobs(
                    (PromptToken(7, -0.5, 2, ((6, -0.25),)),), {7: "b", 6: "c"}
                ),
            ),
        )
    ),
    '{"type":"completed"}': Completed(),
    '{"type":"incomplete"}': Incomplete(),
    f'{{"type":"failed","error":{ERROR}}}': Failed(ErrorInfo("m", "t", None, "c", 400)),
    '{"type":"cancelled","reason":"client"}': Cancelled("client"),
    '{"type":"expired"}': Expired(),
}  # fmt: skip


@pytest.mark.parametrize("raw", EVENTS)
def test_events_are_written_so_and_read_with_what_is_new(raw: str) -> None:
    event = EVENTS[raw]
    assert encode_event(event) == raw and decode_event(raw) == event
    later = {**json.loads(raw), "mood": "good"}
    if isinstance(event, Output):
        choice = later["choices"][0]
        if event.choices[0].logprobs is not None:
            choice[5][0][0].append("more")
        if choice[7] is not None:
            choice[7]["0"][1].append("more")
        choice[6].append("more")
        later["choices"] = [[*choice, "more"]]
    if isinstance(event, Failed):
        later["error"]["hint"] = "ask again"
    assert decode_event(json.dumps(later)) == event


@pytest.mark.parametrize(
    ("raw", "event"),
    [
        ('{"type":"resumed","worker":"w","attempt":2}', Resumed("w", 2)),
        ('{"type":"output","choices":[[0,4,[5],["a"]]]}', Output((ChoiceOutput(0, 4, (5,), ("a",)),))),
        ('{"type":"failed","error":{"message":"m"}}', Failed(ErrorInfo("m"))),
    ],
)
def test_events_are_read_without_what_was_added_since(raw: str, event: Event) -> None:
    assert decode_event(raw) == event


def test_an_event_that_is_new_is_known_by_its_name() -> None:
    assert decode_event('{"type":"dreamt","of":["sheep"]}') == Unknown("dreamt")


def test_an_entry_is_read_with_what_is_new_and_without_what_was_added_since() -> None:
    entry = decode_entry("2-1", {"end": "3", "used": "5,3,0,1", "e": '{"type":"queued"}'})
    assert (entry.end, entry.used) == ((3,), Usage(5, 3, 0, 1))
    later = {"end": "3", "used": "5,3,0,1,9", "e": '{"type":"queued","mood":1}', "mood": "good"}
    assert decode_entry("2-1", later) == entry
    assert decode_entry("2-1", {"end": "3", "e": '{"type":"queued"}'}).used == Usage()


RECORD = {
    "id": "job_a", "endpoint": "/v1/chat/completions", "model": "m", "owner": "o", "n": "1",
    "priority": "normal", "on_disconnect": "continue", "metadata": "{}", "status": "queued", "claim_token": "",
    "created_ms": "1000", "fence": "1", "attempts": "0", "deaths": "0",
}  # fmt: skip


def test_a_jobs_record_is_read_with_what_is_new_and_without_what_was_added_since() -> None:
    job = Job.decode(RECORD, (0,))
    assert (job.num_preemptions, job.num_pauses, job.is_paused, job.used) == (0, 0, False, Usage())
    assert (job.claim_token, job.raw_resolved, job.retry_of, job.error) == (None, None, None, None)
    assert Job.decode({**RECORD, "mood": "good"}, (0,)) == job


LEASE = {
    "name": "w", "model": "m", "host": "h", "pid": "1", "device": "cpu", "slots": "4", "exact": "0",
    "beat": "0",
}  # fmt: skip
COMPUTES: dict[str, Any] = {
    "model_revision": "r", "dtype": "f", "kernels": "k", "torch": "t", "processor": "p", "digest": "d",
    "baton": "0", "threads": 1,
}  # fmt: skip


def test_a_lease_is_read_with_what_is_new_and_without_what_was_added_since() -> None:
    worker = WorkerState.decode("w.a", LEASE, 0)
    assert (worker.fingerprint, worker.model_revision, worker.steps, worker.wake_ups) == (None, "", 0, 0)
    assert worker.reads == 1
    assert WorkerState.decode("w.a", {**LEASE, "mood": "good"}, 0) == worker
    computes = json.dumps({**COMPUTES, "driver": "1.2"})
    later = WorkerState.decode("w.a", {**LEASE, "computes": computes}, 0)
    assert later.fingerprint == Fingerprint(**COMPUTES)


def test_a_report_is_read_with_families_that_are_new() -> None:
    raw = '{"baton_worker_steps":{"":3},"baton_worker_moods":{"good":1}}'
    assert WorkerReport.decode(raw).measured == {"baton_worker_steps": {"": 3.0}}
    assert WorkerReport.decode("{}").measured == {}


def test_a_cursor_is_written_and_read_so() -> None:
    """Clients keep them across an upgrade."""
    job_id = "job_" + "a" * 24
    cursor = Cursor("aaaaaaaa", 2, (ChoiceCursor(12, "begun"), ChoiceCursor(7, "finished")), "usage")
    assert cursor.encode() == "1.aaaaaaaa.2.u.12b.7f"
    assert Cursor.decode("1.aaaaaaaa.2.u.12b.7f", job_id) == cursor


def test_the_answer_to_an_append_is_read_so() -> None:
    assert AppendAnswer.decode("end:12,7") == AppendAnswer("end", (12, 7))
    assert AppendAnswer.decode("not yours") == AppendAnswer("not yours")


def test_a_keyed_request_is_compared_as_it_was_sent() -> None:
    """A client whose POST was cut repeats it, maybe at a replica of a version that knows more fields."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "mood": "good"}
    assert comparable({**body, "stream": True, "stream_options": {"include_usage": True}}) == body
    assert comparable({"body": {**body, "stream": True}}) == {"body": body}
    assert comparable({**body, "mood": "bad"}) != comparable(body)

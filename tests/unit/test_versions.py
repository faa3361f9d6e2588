"""Versions side by side: what crosses processes is read with what a later version adds to it, and without
what an earlier one did not write. Texts are as they stand in Redis: who changes one breaks mixed sites."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.dialects.openai_chat.schema import ChatRequest
from api.http.idempotency import comparable_body
from api.streaming.cursor import ChoiceCursor, Cursor
from shared.domain.events import (
    Cancelled,
    Candidate,
    ChoiceOutput,
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
    TokenLogprobs,
    decode_event,
    encode_event,
)
from shared.domain.fingerprint import Fingerprint
from shared.domain.job import Job, ResolvedRequest
from shared.domain.lease import WorkerState
from shared.domain.prompt_logprobs import PromptLogprobs, PromptToken
from shared.domain.sampling import SamplingParams
from shared.domain.worker_report import WorkerReport
from shared.errors import DecodeError, ErrorInfo
from shared.store.append import AppendAnswer

ERROR = '{"message":"m","type":"t","param":null,"code":"c","status":400}'
CANDIDATE = Candidate(5, b"\xc3", -0.5)
EVENTS: dict[str, Event] = {
    '{"type":"queued"}': Queued(),
    '{"type":"started","worker":"w"}': Started("w"),
    '{"type":"resumed","worker":"w","attempt":2,"exact":true}': Resumed("w", 2, True),
    '{"type":"requeued","reason":"drain"}': Requeued("drain"),
    '{"type":"output","choices":[[0,4,[5],["a"],"stop"]]}': Output(
        (ChoiceOutput(0, 4, (5,), ("a",), "stop"),)
    ),
    '{"type":"output","choices":[[0,4,[5],[""],null,[[[5,"\\u00c3",-0.5]]]]]}': Output(
        (ChoiceOutput(0, 4, (5,), ("",), None, (TokenLogprobs(CANDIDATE, ()),)),)
    ),
    '{"type":"output","choices":[[0,0,[5],["a"],null,null,'
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
    '{"type":"completed","prompt_tokens":3}': Completed(3),
    '{"type":"incomplete","prompt_tokens":3}': Incomplete(3),
    f'{{"type":"failed","error":{ERROR},"prompt_tokens":3}}': Failed(ErrorInfo("m", "t", None, "c", 400), 3),
    '{"type":"cancelled","reason":"client","prompt_tokens":3}': Cancelled("client", 3),
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
        later["choices"] = [[*choice, *[None] * (7 - len(choice)), "more"]]
    if isinstance(event, Failed):
        later["error"]["hint"] = "ask again"
    assert decode_event(json.dumps(later)) == event


@pytest.mark.parametrize(
    ("raw", "event"),
    [
        ('{"type":"resumed","worker":"w","attempt":2}', Resumed("w", 2)),
        ('{"type":"cancelled","reason":"client"}', Cancelled("client")),
        ('{"type":"failed","error":{"message":"m"}}', Failed(ErrorInfo("m"))),
    ],
)
def test_events_are_read_without_what_was_added_since(raw: str, event: Event) -> None:
    assert decode_event(raw) == event


def test_a_resolved_request_is_read_with_what_is_new_and_not_in_use() -> None:
    resolved = ResolvedRequest((1, 2), SamplingParams(8, 1, stop=("x",), logit_bias=((3, 1.0),)), (0,), "rev")
    later = json.loads(resolved.encode()) | {"mood": "good"}
    later["sampling"] |= {"grammar": None, "beams": 0, "words": []}
    assert ResolvedRequest.decode(json.dumps(later)) == resolved


def test_a_parameter_of_sampling_that_is_in_use_is_not_passed_over() -> None:
    later = json.loads(ResolvedRequest((1,), SamplingParams(8, 1), (), "rev").encode())
    later["sampling"]["beams"] = 4
    with pytest.raises(DecodeError):
        ResolvedRequest.decode(json.dumps(later))


def test_a_resolved_request_is_read_without_what_was_added_since() -> None:
    sampling = '{"max_tokens":8,"seed":1}'
    raw = f'{{"prompt_token_ids":[1],"sampling":{sampling},"stop_token_ids":[],"model_revision":"r"}}'
    assert ResolvedRequest.decode(raw) == ResolvedRequest((1,), SamplingParams(8, 1), (), "r")


RECORD = {
    "id": "job_a", "endpoint": "/v1/chat/completions", "model": "m", "owner": "o", "body": "{}", "n": "1",
    "priority": "normal", "on_disconnect": "continue", "metadata": "{}", "status": "queued", "claim_token": "",
    "created_ms": "1000", "fence": "1", "attempts": "0", "deaths": "0",
}  # fmt: skip


def test_a_jobs_record_is_read_with_what_is_new_and_without_what_was_added_since() -> None:
    job = Job.decode(RECORD, (0,))
    assert (job.preempted, job.claim_token, job.resolved, job.retry_of, job.error) == (
        0,
        None,
        None,
        None,
        None,
    )
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


class LaterChat(ChatRequest):
    """A chat of a version with more fields."""

    mood: str | None = None


def test_a_keyed_request_is_the_same_to_a_version_with_more_fields() -> None:
    """A client whose POST was cut repeats it, maybe at a replica of the other version."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "seed": 3}
    assert comparable_body(LaterChat.model_validate(body)) == comparable_body(
        ChatRequest.model_validate(body)
    )
    moody = LaterChat.model_validate({**body, "mood": "good"})
    assert comparable_body(moody) != comparable_body(ChatRequest.model_validate(body))

"""Job ids, and the record of a job."""

from __future__ import annotations

import pytest

from shared.domain.job import Job, NewJob, is_job_id, new_job_id
from shared.domain.request import GenerationRequest, TextPrompt
from shared.domain.usage import Usage
from shared.errors import DecodeError, ErrorInfo

REQUEST = GenerationRequest((TextPrompt("a"), TextPrompt("b")), n=2)
#: What the script `create` adds.
CREATED = {
    "id": "job_a", "model": "m", "owner": "o", "status": "queued", "created_ms": "1500", "fence": "1",
    "attempts": "0", "deaths": "0",
}  # fmt: skip


def test_new_ids_are_ids_and_differ() -> None:
    ids = {new_job_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(is_job_id(job_id) for job_id in ids)


@pytest.mark.parametrize(
    "text", ["", "job_", "job_" + "a" * 23, "job_" + "a" * 23 + "*", "job_" + "a" * 25, "é" * 28]
)
def test_no_other_text_is_an_id(text: str) -> None:
    assert not is_job_id(text)


def stored(new: NewJob) -> dict[str, str]:
    """The fields of a new job as Redis returns them."""
    return CREATED | {name: str(value) for name, value in new.record().items()} | new.bulk()


def test_what_is_stored_of_a_new_job_is_read_again() -> None:
    new = NewJob(
        "job_a", "m", "o", REQUEST, view={"include_usage": True}, priority="low", on_disconnect="pause",
        metadata={"k": "é"}, expires_after_s=1.5, cancel_after_s=60, retry_of="job_b",
    )  # fmt: skip
    job = Job.decode(stored(new), (0,) * 4)
    assert (job.request, job.view, job.metadata, job.n) == (REQUEST, {"include_usage": True}, {"k": "é"}, 4)
    assert (job.priority, job.on_disconnect, job.endpoint) == ("low", "pause", "/v1/chat/completions")
    assert (job.expires_after_s, job.cancel_after_s, job.retry_of) == (1.5, 60, "job_b")
    assert (job.created_at, job.is_terminal, job.is_paused, job.claim_token) == (1.5, False, False, None)


def test_a_record_says_which_version_its_request_needs() -> None:
    assert NewJob("job_a", "m", "o", REQUEST).record()["needs"] == 1


def test_words_of_a_newer_version_are_shown_as_they_are() -> None:
    fields = stored(NewJob("job_a", "m", "o", REQUEST))
    job = Job.decode(
        fields | {"status": "dreaming", "priority": "x", "on_disconnect": "y", "reason": "z"}, (0,)
    )
    assert (job.status, job.priority, job.on_disconnect, job.reason) == ("dreaming", "x", "y", "z")
    assert not job.is_terminal


def test_how_a_job_ended() -> None:
    fields = stored(NewJob("job_a", "m", "o", REQUEST)) | {
        "status": "failed", "completed_ms": "2500", "started_ms": "2000", "num_pauses": "2", "paused_ms": "",
        "num_preemptions": "1", "worker": "w",
    }  # fmt: skip
    error = ErrorInfo("no")
    job = Job.decode(fields, (5,), Usage(3, 5), error)
    assert (job.is_terminal, job.completed_at, job.started_at, job.error) == (True, 2.5, 2.0, error)
    assert (job.num_pauses, job.num_preemptions, job.worker, job.used) == (2, 1, "w", Usage(3, 5))


def test_a_paused_job_is_known_by_its_time() -> None:
    assert Job.decode(stored(NewJob("job_a", "m", "o", REQUEST)) | {"paused_ms": "1"}, (0,)).is_paused


@pytest.mark.parametrize("fields", [{}, {"n": "x"}, {"metadata": "{"}, {"created_ms": ""}])
def test_a_broken_record_is_a_decode_error(fields: dict[str, str]) -> None:
    whole = stored(NewJob("job_a", "m", "o", REQUEST))
    with pytest.raises(DecodeError):
        Job.decode(whole | fields if fields else {"id": "job_x"}, (0,))


def test_a_request_that_was_not_read_is_a_decode_error() -> None:
    fields = stored(NewJob("job_a", "m", "o", REQUEST))
    del fields["request"]
    with pytest.raises(DecodeError):
        _ = Job.decode(fields, (0,)).request

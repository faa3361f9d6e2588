from __future__ import annotations

import itertools
import math
from typing import Any

from shared.domain.events import Completed, Failed, Incomplete, Output
from shared.domain.job import Job
from shared.domain.output import ChoiceOutput, Finish, Head
from shared.domain.result import MAX_STORED_BYTES, ChoiceResult, Item, Result
from shared.domain.sampling import SamplingParams
from shared.domain.usage import Usage
from shared.errors import ErrorInfo
from shared.store.append import Append
from tests.scripted_backend import ScriptedOutput, scripted_backend
from workers.celery_app.pending_task import Delivery, PendingTask
from workers.engine.resolved_request import ResolvedRequest
from workers.runtime.health.telemetry import Telemetry
from workers.runtime.running_job import RunningJob, RunningJobs
from workers.runtime.transcript import Transcript

RESOLVED = ResolvedRequest(((1, 2, 3),), SamplingParams(max_tokens=8, seed=1), (), "rev")


def a_job(*, n: int = 1, resolved: ResolvedRequest | None = None, end: tuple[int, ...] | None = None) -> Job:
    return Job(
        id="job_x",
        endpoint="/v1/chat/completions",
        model="m",
        owner="o",
        n=n,
        priority="normal",
        on_disconnect="continue",
        metadata={},
        status="in_progress",
        created_at=0.0,
        fence=2,
        attempts=1,
        deaths=0,
        end=end or (0,) * n,
        raw_resolved=None if resolved is None else resolved.encode(),
    )


def begun(*, n: int = 1) -> RunningJob:
    running = RunningJob(a_job(n=n), "h", None)
    running.resolved = RESOLVED
    running.begin(Transcript(n))
    return running


def drawn(*choices: tuple[int, int, int, str | None]) -> ScriptedOutput:
    """(choice, start, number of tokens, reason of the finish) each."""
    outputs = [
        ChoiceOutput(
            index,
            start,
            tuple(range(start, start + num)),
            ("t",) * num,
            None if reason is None else Finish(reason),
        )
        for index, start, num, reason in choices
    ]
    return ScriptedOutput("h", tuple(outputs), Usage(0, sum(len(output.texts) for output in outputs)))


def test_before_the_stream_is_known_there_is_no_new_output() -> None:
    running = RunningJob(a_job(end=(5,)), "h", None)
    assert not running.has_new_output
    assert running.due_at(0.0) == math.inf


def test_what_comes_between_the_first_output_and_the_end_keeps_the_pace() -> None:
    running = begun()
    running.checked_at = 100.0
    assert running.due_at(0.03) == 100.5  # a check
    running.take(drawn((0, 0, 1, None)))
    assert running.due_at(0.03) == -math.inf
    running.confirm(running.append())
    running.take(drawn((0, 1, 1, None)))
    assert running.due_at(0.03) == 100.03
    running.take(drawn((0, 2, 1, "stop")))
    assert running.due_at(0.03) == -math.inf


def test_a_failure_does_not_wait() -> None:
    running = begun()
    running.take(drawn((0, 0, 1, None)))
    running.confirm(running.append())
    running.take(ScriptedOutput("h", (), error=ErrorInfo("no")))
    assert running.due_at(0.03) == -math.inf


def test_the_resolved_request_rides_on_the_first_append_until_it_is_stored() -> None:
    running = begun()
    check = running.append()
    assert check == Append("job_x", "h", (0,), (0,), resolved=RESOLVED)
    running.confirm(check)
    assert running.append() == Append("job_x", "h", (0,), (0,))


def test_output_goes_from_what_was_confirmed_to_what_is_there() -> None:
    running = begun()
    running.confirm(running.append())
    running.take(drawn((0, 0, 2, None)))
    first = running.append()
    running.take(drawn((0, 2, 1, None)))
    running.confirm(first)
    second = running.append()
    assert (second.start, second.end) == ((2,), (3,))
    head = Head(kind="text", chars=2)
    assert second.output == Output((ChoiceOutput(0, 2, (2,), ("t",), head=head),))
    assert (first.used, second.used) == (Usage(0, 2), Usage(0, 3))


def test_an_end_without_tokens_waits_for_an_append_that_moves_the_positions() -> None:
    running = begun(n=2)
    running.take(drawn((0, 0, 1, None), (1, 0, 1, None)))
    running.confirm(running.append())
    running.take(drawn((0, 1, 0, "stop")))
    assert not running.has_new_output
    assert running.append().output is None
    running.take(drawn((1, 1, 1, None)))
    output = running.append().output
    assert output is not None
    assert [(choice.index, choice.finish) for choice in output.choices] == [(0, Finish("stop")), (1, None)]


def test_the_terminal_event_goes_with_the_last_output() -> None:
    running = begun(n=2)
    running.take(drawn((0, 0, 1, "stop"), (1, 0, 1, None)))
    assert running.terminal is None
    running.take(drawn((1, 1, 1, "length")))
    append = running.append()
    assert (append.terminal, append.end) == (Incomplete(), (1, 2))
    assert running.status == "incomplete"


def test_a_failure_ends_it_after_its_output() -> None:
    running = begun()
    info = ErrorInfo("no", code="c")
    running.take(drawn((0, 0, 1, None)))
    running.take(ScriptedOutput("h", (), error=info))
    append = running.append()
    assert append.terminal == Failed(info)
    assert append.end == (1,)


def test_a_finished_stream_lacks_only_its_terminal_event() -> None:
    running = RunningJob(a_job(resolved=RESOLVED, end=(1,)), "h", None)
    running.begin(Transcript.of([], 1))
    running.transcript.take(drawn((0, 0, 1, "stop")).choices)
    running.released = running.transcript.progress
    assert running.append() == Append("job_x", "h", (1,), (1,), terminal=Completed())


def test_the_result_is_stored_once_before_the_end_and_again_in_doubt() -> None:
    running = begun()
    running.take(drawn((0, 0, 1, None)))
    assert running.unstored_result() is None
    running.take(drawn((0, 1, 1, "content_filter")))
    stored = running.unstored_result()
    assert stored is not None and Result.decode(stored) == Result(
        [ChoiceResult([Item("text", "tt")], position=2, finish=Finish("content_filter"), token_ids=[0, 1])],
        Usage(0, 2),
    )
    assert running.unstored_result() is None
    running.doubt()
    assert running.unstored_result() == stored


def test_a_job_that_fails_and_one_that_is_too_large_store_no_result() -> None:
    failed = begun()
    failed.take(drawn((0, 0, 1, "stop")))
    failed.error = ErrorInfo("no")
    assert failed.unstored_result() is None
    large = begun()
    text = "x" * MAX_STORED_BYTES
    large.take(ScriptedOutput("h", (ChoiceOutput(0, 0, (1,), (text,), Finish("stop")),)))
    assert large.unstored_result() is None


class Reports:
    """A wake-up, and what it reports to Celery."""

    _pids = itertools.count(1)

    def __init__(self) -> None:
        self.outcomes: list[Any] = []
        self.wake_up = PendingTask(
            pid=next(self._pids),
            job_id="job_x",
            post=lambda call, *args: call(*args),
            forget=lambda: None,
            on_terminate=lambda _: None,
        )
        self.wake_up.deliver(Delivery(lambda *_: None, lambda outcome: self.outcomes.append(outcome[:2])))


def test_slots_are_taken_by_choices() -> None:
    jobs = RunningJobs(scripted_backend(slots=4), Telemetry(), slots=4)
    running = begun(n=3)
    jobs.add(running)
    assert (len(jobs), jobs.num_free_slots, jobs.claim_tokens) == (1, 1, {"job_x": "h"})
    jobs.drop(running, "gone")
    assert (len(jobs), jobs.num_free_slots) == (0, 4)


def test_the_end_of_a_job_ends_its_wake_up() -> None:
    jobs = RunningJobs(scripted_backend(slots=4), Telemetry(), slots=4)
    reports = Reports()
    running = RunningJob(a_job(), "h", reports.wake_up)
    running.begin(Transcript(1))
    running.take(drawn((0, 0, 1, "stop")))
    jobs.add(running)
    jobs.close(running)
    jobs.drop(running, "again: is not reported")
    assert reports.outcomes == [(0, "job_x completed")]


def test_a_failed_jobs_wake_up_fails_with_the_code_alone() -> None:
    jobs = RunningJobs(scripted_backend(slots=4), Telemetry(), slots=4)
    reports = Reports()
    running = RunningJob(a_job(), "h", reports.wake_up)
    running.error = ErrorInfo("secret prompt", code="some_code")
    jobs.add(running)
    jobs.close(running)
    ((status, info),) = reports.outcomes
    assert (status, repr(info.exception)) == (1, "JobFailed('job_x some_code')")

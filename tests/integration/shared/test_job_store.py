"""The scripts against real Redis: each does its part, and the same again when its reply was lost."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import msgspec
import pytest
from redis.asyncio import Redis

from shared.domain.events import (
    Cancelled,
    Completed,
    Entry,
    Event,
    Expired,
    Failed,
    Output,
    Queued,
    Requeued,
    Resumed,
    Started,
)
from shared.domain.fingerprint import Fingerprint
from shared.domain.job import Accepted, Job, NewJob, new_job_id
from shared.domain.lease import BeatAnswer, Lease
from shared.domain.output import ChoiceOutput
from shared.domain.request import READER_VERSION, ChatMessage, ChatPrompt, GenerationRequest
from shared.domain.request_key import RequestKey
from shared.domain.usage import Usage
from shared.domain.wake_up import WakeUp
from shared.errors import ErrorInfo
from shared.store import keys
from shared.store.append import Append, AppendAnswer
from shared.store.job_store import JobStore

MODEL = "org/model"
LEASE = Lease("w1.a", "w1", MODEL, "host", 1, "cpu", 4, "rev")
OTHER = replace(LEASE, worker_instance="w2.b", name="w2")
#: Tokens that a job has used.
USED = Usage(3, 2, 1)
REQUEST = GenerationRequest((ChatPrompt((ChatMessage("user", "hi"),)),))


class Resolved(NamedTuple):
    """A resolved request, in a form that only its backend reads."""

    text: str = "resolved"
    model_revision: str = "rev"

    def encode(self) -> str:
        return self.text


RESOLVED = Resolved()


def new_job(**changes: object) -> NewJob:
    return replace(NewJob(new_job_id(), MODEL, "owner", REQUEST), **changes)  # type: ignore[arg-type]


def words(*texts: str, start: int = 0) -> Output:
    return Output((ChoiceOutput(0, start, tuple(range(len(texts))), texts),))


async def claimed(store: JobStore, lease: Lease, claim_token: str) -> Job:
    job = await store.claim(lease, claim_token)
    assert isinstance(job, Job)
    return job


async def running(store: JobStore, **changes: object) -> Job:
    await store.create(new_job(**changes))
    await store.register(LEASE)
    return await claimed(store, LEASE, "h1")


async def stream(store: JobStore, job_id: str) -> list[Event]:
    return [entry.event for entry in await store.entries(job_id)]


async def test_a_created_job_waits_with_its_first_event(store: JobStore) -> None:
    job = new_job(
        metadata={"a": "b"},
        request=msgspec.structs.replace(REQUEST, n=2),
        priority="high",
        view={"include_usage": True},
    )
    accepted = await store.create(job)
    found = await store.get(job.id)
    assert found is not None and accepted == Accepted(job.id, found.created_at, is_replay=False)
    assert (found.status, found.request, found.metadata, found.view, found.end) == (
        "queued", job.request, {"a": "b"}, {"include_usage": True}, (0, 0)
    )  # fmt: skip
    assert await store.entries(job.id) == [Entry("1-0", (0, 0), Queued())]
    assert await store.queue_positions([(MODEL, job.id)]) == [0]
    assert await store.list_ids("owner", before=None, limit=9) == [job.id]


async def test_creating_again_changes_nothing(store: JobStore) -> None:
    job = new_job()
    accepted = await store.create(job)
    assert await store.create(replace(job, request=msgspec.structs.replace(REQUEST, n=2))) == accepted
    assert (await store.get(job.id)).request == job.request  # type: ignore[union-attr]
    assert len(await store.entries(job.id)) == 1


async def test_priority_comes_first_then_age(store: JobStore) -> None:
    jobs = [new_job(priority=p) for p in ("low", "normal", "high", "normal")]
    for job in jobs:
        await store.create(job)
    await store.register(LEASE)
    order = [(await claimed(store, LEASE, f"h{i}")).id for i in range(4)]
    assert order == [jobs[2].id, jobs[1].id, jobs[3].id, jobs[0].id]


async def test_within_a_class_the_order_is_that_of_acceptance(store: JobStore) -> None:
    jobs = [new_job() for _ in range(100)]
    for job in jobs:
        await store.create(job)
    assert await store.list_ids("owner", before=None, limit=200) == [job.id for job in jobs[::-1]]
    assert (await store.survey(limit=200)).active == [job.id for job in jobs]
    lease = replace(LEASE, slots=100)
    await store.register(lease)
    assert [(await claimed(store, lease, f"h{i}")).id for i in range(100)] == [job.id for job in jobs]


async def test_the_order_holds_when_the_clock_goes_back(store: JobStore, redis_client: Redis) -> None:
    await redis_client.set(keys.ACCEPT_SEQ, 2_500_000_000_000_000)  # a clock that was decades ahead
    jobs = [new_job(priority=p) for p in ("low", "normal", "normal", "high")]
    for job in jobs:
        await store.create(job)
    await store.register(LEASE)
    order = [(await claimed(store, LEASE, f"h{i}")).id for i in range(4)]
    assert order == [jobs[3].id, jobs[1].id, jobs[2].id, jobs[0].id]


async def test_a_job_that_waited_long_goes_on_in_a_better_class(store: JobStore) -> None:
    low, normal, high = jobs = [new_job(priority=p) for p in ("low", "normal", "high")]
    for job in jobs:
        await store.create(job)
    assert await store.promote([MODEL, "other"]) == (0, {MODEL: 3, "other": 0})
    assert await store.promote([MODEL], after_s={"low": 0}) == (1, {MODEL: 3})
    assert await store.queue_positions([(MODEL, job.id) for job in jobs]) == [1, 2, 0]
    assert await store.promote([MODEL], after_s={"low": 0, "normal": 0}) == (2, {MODEL: 3})
    assert await store.queue_positions([(MODEL, job.id) for job in jobs]) == [0, 1, 2]
    await store.register(LEASE)
    assert (await claimed(store, LEASE, "h")).id == low.id
    # One that comes back keeps its better place.
    await store.requeue(low.id, "h", "preempted")
    assert await store.queue_positions([(MODEL, job.id) for job in (low, normal, high)]) == [0, 1, 2]


async def test_nothing_is_made_of_a_job_that_is_gone(store: JobStore, redis_client: Redis) -> None:
    job = new_job(priority="low")
    await store.create(job)
    await redis_client.delete(keys.job(job.id))
    assert await store.promote([MODEL], after_s={"low": 0}) == (0, {MODEL: 0})
    assert not await redis_client.exists(keys.job(job.id), keys.queued(MODEL))


async def test_a_claim_starts_the_job(store: JobStore) -> None:
    job = await running(store)
    assert (job.status, job.claim_token, job.worker, job.attempts, job.fence) == (
        "in_progress",
        "h1",
        "w1",
        1,
        2,
    )
    assert await stream(store, job.id) == [Queued(), Started("w1")]
    assert await store.claim(LEASE, "h2") == "empty"


async def test_a_repeated_claim_returns_the_same_job(store: JobStore) -> None:
    job = await running(store)
    await store.create(new_job())
    again = await claimed(store, LEASE, "h1")
    assert (again.id, again.fence, again.attempts) == (job.id, job.fence, 1)
    assert await stream(store, job.id) == [Queued(), Started("w1")]


async def test_no_lease_no_claim(store: JobStore) -> None:
    await store.create(new_job())
    assert await store.claim(LEASE, "h") == "unknown"


async def test_a_job_resolved_for_another_revision_is_passed_over(store: JobStore) -> None:
    job = await running(store)
    await store.append([Append(job.id, "h1", (0,), (1,), USED, words("a"), RESOLVED)])
    await store.requeue(job.id, "h1", "drain")
    second = new_job()
    await store.create(second)
    await store.register(replace(OTHER, model_revision="new"))
    assert (await claimed(store, replace(OTHER, model_revision="new"), "h2")).id == second.id
    assert (await claimed(store, LEASE, "h3")).id == job.id


@pytest.mark.parametrize(("num_passed", "is_found"), [(33, True), (511, True), (512, False)])
async def test_jobs_that_a_worker_may_not_take_hide_none_behind_them(
    store: JobStore, redis_client: Redis, num_passed: int, is_found: bool
) -> None:
    """Up to a limit: a claim looks only at a limited number of jobs."""
    for _ in range(num_passed):
        job = new_job()
        await store.create(job)
        await redis_client.hset(keys.job(job.id), "revision", "another")
    last = new_job()
    await store.create(last)
    await store.register(LEASE)
    answer = await store.claim(LEASE, "h")
    assert (answer if isinstance(answer, str) else answer.id) == (last.id if is_found else "empty")
    assert await store.num_queued(MODEL) == num_passed + (not is_found)


async def test_a_job_of_a_newer_version_is_passed_over(store: JobStore, redis_client: Redis) -> None:
    newer, plain = new_job(), new_job()
    for job in (newer, plain):
        await store.create(job)
    await redis_client.hset(keys.job(newer.id), "needs", READER_VERSION + 1)
    await store.register(LEASE)
    assert (await claimed(store, LEASE, "h1")).id == plain.id
    assert await store.claim(LEASE, "h2") == "empty"
    assert await store.queue_positions([(MODEL, newer.id)]) == [0]
    await redis_client.hset(keys.job(newer.id), "needs", READER_VERSION)
    assert (await claimed(store, LEASE, "h2")).id == newer.id


async def test_append_writes_and_says_where_the_stream_ends(store: JobStore) -> None:
    job = await running(store)
    answers = await store.append([Append(job.id, "h1", (0,), (2,), USED, words("a", "b"), RESOLVED)])
    assert answers == [AppendAnswer("end", (2,))]
    assert (await store.entries(job.id))[-1] == Entry("2-1", (2,), words("a", "b"), USED)
    stored = await store.get(job.id)
    assert stored is not None and (stored.raw_resolved, stored.used) == ("resolved", USED)


async def test_append_called_again_writes_nothing(store: JobStore) -> None:
    job = await running(store)
    append = Append(job.id, "h1", (0,), (1,), output=words("a"))
    await store.append([append])
    # The retry has coalesced more: the store says where to go on.
    more = Append(job.id, "h1", (0,), (3,), output=words("a", "b", "c"))
    assert await store.append([append, more]) == [AppendAnswer("end", (1,))] * 2
    assert len(await store.entries(job.id)) == 3


async def test_a_check_writes_nothing(store: JobStore) -> None:
    job = await running(store)
    assert await store.append([Append(job.id, "h1", (0,), (0,))]) == [AppendAnswer("end", (0,))]
    assert len(await store.entries(job.id)) == 2


async def test_a_stream_that_is_gone_stays_gone(store: JobStore, redis_client: Redis) -> None:
    job = await running(store)
    await redis_client.delete(keys.events(job.id))
    assert await store.append([Append(job.id, "h1", (0,), (1,), output=words("a"))]) == [AppendAnswer("gone")]
    assert not await redis_client.exists(keys.events(job.id))


async def test_another_claim_may_not_write(store: JobStore) -> None:
    job = await running(store)
    await store.requeue(job.id, "h1", "drain")
    await store.register(OTHER)
    await claimed(store, OTHER, "h2")
    append = Append(job.id, "h1", (0,), (1,), USED, words("zombie"), RESOLVED, Completed())
    assert await store.append([append]) == [AppendAnswer("not yours")]
    assert await stream(store, job.id) == [Queued(), Started("w1"), Requeued("drain"), Resumed("w2", 2)]


async def test_the_end_is_written_with_the_last_output_and_once(store: JobStore, redis_client: Redis) -> None:
    job = await running(store)
    last = Append(job.id, "h1", (0,), (1,), USED, words("a"), RESOLVED, Completed())
    for _ in range(2):
        assert await store.append([last]) == [AppendAnswer("closed", (1,))]
    assert (await stream(store, job.id))[-2:] == [words("a"), Completed()]
    found = await store.get(job.id)
    assert found is not None and found.status == "completed" and found.completed_at is not None
    assert await redis_client.zscore(keys.ACTIVE, job.id) is None
    assert await redis_client.hlen(keys.worker_jobs("w1.a")) == 0
    assert await redis_client.zrange(keys.DEADLINES, 0, -1) == [f"retention:{job.id}"]


async def test_cancelling_ends_the_claim(store: JobStore) -> None:
    job = await running(store)
    await store.append([Append(job.id, "h1", (0,), (1,), USED, words("a"), RESOLVED)])
    for _ in range(2):
        assert await store.cancel(job.id, "client") == "cancelled"
    assert await store.append([Append(job.id, "h1", (1,), (2,), output=words("b", start=1))]) == [
        AppendAnswer("not yours")
    ]
    assert (await store.entries(job.id))[-1] == Entry("3-0", (1,), Cancelled("client"), USED)


async def test_a_cancelled_job_that_waited_is_never_claimed(store: JobStore) -> None:
    job = new_job()
    await store.create(job)
    await store.cancel(job.id, "client")
    await store.register(LEASE)
    assert await store.claim(LEASE, "h") == "empty"
    assert await stream(store, job.id) == [Queued(), Cancelled("client")]


async def test_what_is_over_cannot_be_cancelled(store: JobStore) -> None:
    job = await running(store)
    await store.append([Append(job.id, "h1", (0,), (0,), terminal=Completed())])
    assert await store.cancel(job.id, "client") == "completed"
    assert await store.cancel(new_job_id(), "client") is None


async def test_a_job_that_was_started_does_not_expire(store: JobStore) -> None:
    job = await running(store, expires_after_s=1)
    assert await store.expire(job.id) == "in_progress"
    waiting = new_job()
    await store.create(waiting)
    assert await store.expire(waiting.id) == "expired"
    assert (await stream(store, waiting.id))[-1] == Expired()


async def test_a_failed_job_has_its_error(store: JobStore) -> None:
    job = await running(store)
    error = ErrorInfo("no", code="model_changed")
    assert await store.fail(job.id, error) == "failed"
    assert (await stream(store, job.id))[-1] == Failed(error)
    found = await store.get(job.id)
    assert found is not None and found.error == error


async def test_a_deadline_that_moved_is_not_kept(store: JobStore, redis_client: Redis) -> None:
    job = new_job(cancel_after_s=0)
    await store.create(job)
    (seen,) = (await store.survey(limit=9)).due
    assert (seen.kind, seen.job_id) == ("cancel", job.id)
    await redis_client.zadd(keys.DEADLINES, {seen.member: seen.due_ms - 1})
    assert await store.cancel(job.id, "deadline", seen=seen) == "queued"
    assert await store.cancel(job.id, "deadline", seen=seen._replace(due_ms=seen.due_ms - 1)) == "cancelled"


async def test_requeued_it_keeps_place_and_output(store: JobStore) -> None:
    job = await running(store)
    later = new_job()
    await store.create(later)
    await store.append([Append(job.id, "h1", (0,), (1,), output=words("a"))])
    assert await store.requeue(job.id, "h1", "preempted") == "requeued"
    assert await store.requeue(job.id, "h1", "preempted") == "not yours"
    again = await claimed(store, LEASE, "h2")
    assert (again.id, again.end, again.attempts, again.deaths) == (job.id, (1,), 2, 0)


async def test_release_gives_everything_back_and_ends_the_lease(store: JobStore) -> None:
    job = await running(store)
    assert await store.release("w1.a", "worker_died", died=True) == [WakeUp(job.id, MODEL)]
    assert await store.release("w1.a", "worker_died", died=True) == []
    assert await store.workers() == []
    assert await store.beat("w1.a", steps=1, wake_ups=0, running={}, stats={}) is None
    assert (await stream(store, job.id))[-1] == Requeued("worker_died")


async def test_release_leaves_a_job_that_another_holds(store: JobStore, redis_client: Redis) -> None:
    job = await running(store)
    await store.register(OTHER)
    await redis_client.hset(keys.worker_jobs(OTHER.worker_instance), job.id, "older")
    assert await store.release(OTHER.worker_instance, "worker_died", died=True) == []
    assert await store.append([Append(job.id, "h1", (0,), (0,))]) == [AppendAnswer("end", (0,))]


async def test_three_deaths_without_progress_end_a_job(store: JobStore) -> None:
    job = await running(store)
    for attempt in range(2):
        await store.release("w1.a", "worker_died", died=True)
        await store.register(LEASE)
        await claimed(store, LEASE, f"again{attempt}")
    await store.release("w1.a", "worker_died", died=True)
    found = await store.get(job.id)
    assert found is not None and found.status == "failed"
    assert found.error is not None and found.error.code == "worker_lost"


async def test_a_token_gained_forgives_the_deaths(store: JobStore) -> None:
    job = await running(store)
    for attempt in range(4):
        claim_token = "h1" if attempt == 0 else f"again{attempt}"
        await store.append(
            [Append(job.id, claim_token, (attempt,), (attempt + 1,), output=words("a", start=attempt))]
        )
        await store.release("w1.a", "worker_died", died=True)
        await store.register(LEASE)
        assert (await claimed(store, LEASE, f"again{attempt + 1}")).deaths == 0


async def test_after_two_deaths_a_job_runs_alone(store: JobStore) -> None:
    job = await running(store)
    await store.release("w1.a", "worker_died", died=True)
    await store.register(LEASE)
    await claimed(store, LEASE, "second")
    await store.release("w1.a", "worker_died", died=True)
    neighbour, third = new_job(priority="high"), new_job()
    await store.create(neighbour)
    await store.create(third)
    await store.register(LEASE)
    assert (await claimed(store, LEASE, "a")).id == neighbour.id
    assert (await claimed(store, LEASE, "b")).id == third.id  # the poisoned one is passed over
    for claim_token, other in (("a", neighbour), ("b", third)):
        await store.append([Append(other.id, claim_token, (0,), (0,), terminal=Completed())])
    assert (await claimed(store, LEASE, "c")).id == job.id
    await store.create(new_job())
    assert await store.claim(LEASE, "d") == "wait"
    await store.append([Append(job.id, "c", (0,), (1,), output=words("a"))])
    assert isinstance(await store.claim(LEASE, "d"), Job)


async def test_a_beat_names_what_the_worker_does_not_know(store: JobStore) -> None:
    job = await running(store)
    known = {"steps": 3, "wake_ups": 1, "stats": {"x": 1}}
    for running_here, strays in (({job.id: "h1"}, {}), ({}, {job.id: "h1"})):
        answer = await store.beat("w1.a", running=running_here, **known)  # type: ignore[arg-type]
        assert answer == BeatAnswer(strays, is_draining=False)
    (worker,) = await store.workers()
    assert (worker.beat, worker.steps, worker.wake_ups, worker.jobs, worker.stats) == (2, 3, 1, 1, {"x": 1})


async def test_a_forgotten_job_leaves_nothing(store: JobStore, redis_client: Redis) -> None:
    key = RequestKey.of("k", "owner", "/v1/jobs", {})
    job = await running(store, key=key)
    await store.bind(RequestKey.of("other", "owner", "/v1/jobs/x/cancel", None), job.id)
    await store.forget(job.id)
    assert await store.get(job.id) is not None  # it is not over
    await store.cancel(job.id, "client")
    await store.forget(job.id)
    await store.forget(job.id)
    await store.release("w1.a", "drain", died=False)
    lasting = {keys.MODELS, keys.MODEL_TIMES, keys.ACCEPT_SEQ, keys.throughput(MODEL)}
    assert set(await redis_client.keys("*")) == lasting
    assert not (await store.create(new_job(key=key))).is_replay


async def test_a_drain_is_reported_with_every_beat_and_ends_with_the_lease(store: JobStore) -> None:
    await store.register(LEASE)
    beat = {"steps": 0, "wake_ups": 0, "running": {}, "stats": {}}
    for _ in range(2):
        assert await store.drain("w1.a") is True
        assert await store.beat("w1.a", **beat) == BeatAnswer({}, is_draining=True)  # type: ignore[arg-type]
    (worker,) = await store.workers()
    assert worker.is_draining and worker.to_json()["status"] == "draining"
    await store.release("w1.a", "drain", died=False)
    assert await store.drain("w1.a") is False
    await store.register(LEASE)
    assert await store.beat("w1.a", **beat) == BeatAnswer({}, is_draining=False)  # type: ignore[arg-type]


PRINT = Fingerprint("rev", "float32", "MKL", "2.13", "a CPU", "d1", "1", threads=1)
EXACT = replace(LEASE, is_exact=True, fingerprint=PRINT)


@pytest.mark.parametrize(
    ("first", "second", "is_exact"),
    [
        (EXACT, EXACT, True),
        (EXACT, replace(EXACT, fingerprint=replace(PRINT, threads=2)), True),
        (EXACT, replace(EXACT, fingerprint=replace(PRINT, digest="d2")), False),
        (EXACT, replace(EXACT, is_exact=False), False),
        (replace(EXACT, is_exact=False), replace(EXACT, is_exact=False), False),
        (replace(EXACT, fingerprint=None), replace(EXACT, fingerprint=None), False),
    ],
)
async def test_a_resumed_job_reports_whether_it_continues_exactly(
    store: JobStore, first: Lease, second: Lease, is_exact: bool
) -> None:
    """Once it did not, it does not again."""
    await store.create(new_job())
    for lease, claim_token, end in ((first, "h1", 0), (second, "h2", 1), (first, "h3", 2)):
        mine = replace(lease, worker_instance=f"w.{claim_token}")
        await store.register(mine)
        job = await claimed(store, mine, claim_token)
        text = Append(
            job.id, claim_token, (end,), (end + 1,), output=words("a", start=end), resolved=RESOLVED
        )
        await store.append([text])
        await store.requeue(job.id, claim_token, "drain")
    told = [event.exact for event in await stream(store, job.id) if isinstance(event, Resumed)]
    assert told == [is_exact, is_exact]


async def test_unreleased_tokens_need_not_be_continued_exactly(store: JobStore) -> None:
    await store.create(new_job())
    for claim_token, digest in (("h1", "d1"), ("h2", "d2")):
        mine = replace(EXACT, worker_instance=f"w.{claim_token}", fingerprint=replace(PRINT, digest=digest))
        await store.register(mine)
        job = await claimed(store, mine, claim_token)
        await store.requeue(job.id, claim_token, "drain")
    assert Resumed("w1", 2, exact=True) in await stream(store, job.id)


async def low_and_high(store: JobStore, *, tokens: int) -> tuple[Job, str]:
    """A low job that has made some tokens on LEASE, and a high one that has waited for a slot."""
    low = await running(store, priority="low")
    text = words(*["a"] * tokens)
    await store.append([Append(low.id, "h1", (0,), (tokens,), output=text, resolved=RESOLVED)])
    high = new_job(priority="high")
    await store.create(high)
    await store._redis.hincrby(keys.job(high.id), "created_ms", -250)
    return low, high.id


async def test_a_claim_instead_of_a_low_job_preempts_it_once(store: JobStore) -> None:
    low, high = await low_and_high(store, tokens=32)
    before = str(await store._redis.hget(keys.job(low.id), "score"))
    for _ in range(2):
        taken = await store.claim(LEASE, "h2", instead_of=(low.id, "h1"))
        assert isinstance(taken, Job) and taken.id == high
    preempted = await store.get(low.id)
    assert preempted is not None and (preempted.status, preempted.num_preemptions, preempted.deaths) == (
        "queued",
        1,
        0,
    )
    assert (await stream(store, low.id))[-1] == Requeued("preempted")
    assert await store._redis.zscore(keys.queued(MODEL), low.id) == float(before)
    assert await store._redis.hgetall(keys.worker_jobs(LEASE.worker_instance)) == {high: "h2"}


@pytest.mark.parametrize(
    "case",
    ["too few tokens", "another claim_token", "preempted too often", "not low", "nobody waits", "just came"],
)
async def test_a_job_that_may_not_be_preempted_stays(store: JobStore, case: str) -> None:
    low, high = await low_and_high(store, tokens=31 if case == "too few tokens" else 32)
    if case == "preempted too often":
        await store._redis.hset(keys.job(low.id), "num_preemptions", 3)
    if case == "not low":
        await store._redis.hset(keys.job(low.id), "score", 3 * 10**15 + 5)
    if case == "nobody waits":
        await store.cancel(high, "client")
        await store.create(new_job())
    if case == "just came":
        await store._redis.hincrby(keys.job(high), "created_ms", 60_000)
    claim_token = "h0" if case == "another claim_token" else "h1"
    assert await store.claim(LEASE, "h2", instead_of=(low.id, claim_token)) == "empty"
    found = await store.get(low.id)
    assert found is not None and (found.status, found.claim_token) == ("in_progress", "h1")
    assert Requeued("preempted") not in await stream(store, low.id)

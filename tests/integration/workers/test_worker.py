"""One worker from the wake-up to the terminal event, against real Redis, with a scripted engine."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.constraint import Constraint
from shared.domain.events import (
    Cancelled,
    Completed,
    Failed,
    Incomplete,
    Output,
    Queued,
    Requeued,
    Resumed,
    Started,
)
from shared.domain.job import Job
from shared.domain.lease import Lease
from shared.domain.request import GenerationRequest
from shared.domain.usage import Usage
from shared.errors import ErrorInfo, invalid_request
from shared.runtime.logs import JsonFormatter
from shared.store import keys
from shared.store.job_store import JobStore
from tests.integration.workers.harness import MODEL, WAIT_S, CelerySide, Harness, Jobs, eventually, lose_tail
from tests.integration.workers.lossy_store import LossyStore
from tests.scripted_backend import (
    CONTEXT_LENGTH,
    ScriptedEngine,
    ScriptedOutput,
    scripted_backend,
    scripted_resolve,
    scripted_text,
)
from workers.backends.local import LocalBackend
from workers.engine.resolved_request import ResolvedRequest
from workers.runtime import publisher
from workers.runtime.assembly import make_worker
from workers.runtime.health.step_guard import BackendStalled
from workers.runtime.health.watchdog import WorkerIdle

#: A seed of requests that break.
BROKEN = 13
#: Another worker, whose part the test plays.
OTHER = Lease("w0.a", "w0", MODEL, "host", 1, "cpu", 4, "scripted-1")


async def test_a_job_goes_from_the_wake_up_to_its_terminal_event(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    job_id = await jobs.create(5)
    async with Harness(store, sender) as harness:
        wake_up = harness.send(job_id)
        job = await jobs.ended(job_id)
        assert await harness.reports(wake_up) == ["accepted", f"{job_id} completed"]
    assert await jobs.life(job_id) == [Queued(), Started("w1"), Completed()]
    assert await jobs.texts(job_id) == [scripted_text(1, 0, 5)]
    assert (job.status, job.worker, job.used, job.end) == ("completed", "w1", Usage(3, 5), (5,))
    assert job.raw_resolved is None  # only workers need it, until the end


async def test_the_token_limit_makes_it_incomplete(store: JobStore, sender: WakeUpSender, jobs: Jobs) -> None:
    job_id = await jobs.create(50, max_tokens=7)
    async with Harness(store, sender) as harness:
        harness.send(job_id)
        await jobs.ended(job_id)
    assert (await jobs.life(job_id))[-1] == Incomplete()
    assert await jobs.texts(job_id) == [scripted_text(1, 0, 7)]


async def test_each_choice_has_draws_of_its_own(store: JobStore, sender: WakeUpSender, jobs: Jobs) -> None:
    job_id = await jobs.create(6, n=3)
    async with Harness(store, sender) as harness:
        harness.send(job_id)
        await jobs.ended(job_id)
    assert await jobs.texts(job_id) == [scripted_text(1, choice, 6) for choice in range(3)]


async def test_jobs_share_the_batch_up_to_the_slots(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    job_ids = [await jobs.create(20, seed=seed) for seed in range(9)]
    async with Harness(store, sender, slots=4) as harness:
        for job_id in job_ids:
            harness.send(job_id)
        for seed, job_id in enumerate(job_ids):
            await jobs.ended(job_id)
            assert await jobs.texts(job_id) == [scripted_text(seed, 0, 20)]
        stats = harness.worker.stats()
    assert (stats["batch_max"], stats["tokens_total"], stats["claims_total"]) == (4, 180, 9)
    assert stats["batch_mean"] > 2


async def test_a_wake_up_too_many_is_acknowledged_at_once(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    job_id = await jobs.create(5)
    async with Harness(store, sender) as harness:
        wake_ups = [harness.send(job_id) for _ in range(3)]
        reports = [
            await harness.reports(wake_up, num) for wake_up, num in zip(wake_ups, (2, 1, 1), strict=True)
        ]
    assert reports == [["accepted", f"{job_id} completed"], ["nothing queued"], ["nothing queued"]]


async def test_a_request_that_cannot_be_read_fails_alone(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    good = await jobs.create(20)
    bad = await jobs.create(content="word " * CONTEXT_LENGTH)
    async with Harness(store, sender) as harness:
        harness.send(good)
        wake_up = harness.send(bad)
        await jobs.ended(bad)
        assert await harness.reports(wake_up) == ["accepted", f"failed: {bad} context_length_exceeded"]
        await jobs.ended(good)
    event = (await jobs.life(bad))[-1]
    assert isinstance(event, Failed)
    assert (event.error.status, event.error.code) == (400, "context_length_exceeded")
    assert await jobs.texts(good) == [scripted_text(1, 0, 20)]


async def test_what_breaks_while_reading_a_request_fails_that_job(
    store: JobStore, sender: WakeUpSender, jobs: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    def resolve(request: GenerationRequest) -> ResolvedRequest:
        if request.sampling.seed == BROKEN:
            raise ZeroDivisionError("what the client sent")
        return scripted_resolve(request)

    backend = LocalBackend(ScriptedEngine(slots=4), resolve, model_revision="scripted-1", is_exact=True)
    bad = await jobs.create(seed=BROKEN)
    job_id = await jobs.create()
    async with Harness(store, sender, backend=backend) as harness:
        harness.send(bad)
        await jobs.ended(bad)
        harness.send(job_id)
        assert (await jobs.ended(job_id)).status == "completed"
    event = (await jobs.life(bad))[-1]
    assert isinstance(event, Failed)
    assert event.error == ErrorInfo("The worker cannot read this request.", code="internal_error")
    (record,) = [record for record in caplog.records if bad in record.getMessage()]
    line = JsonFormatter("worker", "w").format(record)
    assert "ZeroDivisionError" in line and "test_worker.py" in line and "resolve" in line
    assert "what the client sent" not in line


@pytest.mark.parametrize("losses", [0, 1, 3])
async def test_the_result_is_stored_before_the_end(
    sender: WakeUpSender, jobs: Jobs, lossy: LossyStore, losses: int
) -> None:
    job_id = await jobs.create(6, n=2)
    lossy.losses["keep_result"] = losses
    async with Harness(lossy, sender) as harness:
        harness.send(job_id)
        await jobs.ended(job_id)
    result = await jobs.result(job_id)
    assert [choice.text for choice in result.choices] == [scripted_text(1, choice, 6) for choice in range(2)]
    assert result.used == Usage(prompt=3, completion=12)
    assert result == await jobs.read_again(job_id)
    assert lossy.calls["keep_result"] == 1 + losses


async def test_a_job_that_ends_while_another_ones_result_is_stored_has_its_own(
    store: JobStore, sender: WakeUpSender, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_result = store.keep_result

    async def slowly(job_id: str, claim_token: str, result: bytes) -> bool:
        await asyncio.sleep(0.2)
        return await keep_result(job_id, claim_token, result)

    monkeypatch.setattr(store, "keep_result", slowly)
    set_pace(monkeypatch, 0.0)
    job_ids = [await jobs.create(length) for length in (30, 20, 15, 10)]
    async with Harness(store, sender) as harness:
        for job_id in job_ids:
            harness.send(job_id)
        for job_id in job_ids:
            await jobs.ended(job_id)
    for job_id, length in zip(job_ids, (30, 20, 15, 10), strict=True):
        assert (await jobs.result(job_id)).choices[0].text == scripted_text(1, 0, length)


async def test_a_cancelled_job_has_no_result(store: JobStore, sender: WakeUpSender, jobs: Jobs) -> None:
    job_id = await jobs.create(3000)
    async with Harness(store, sender) as harness:
        harness.send(job_id)
        await jobs.reached(job_id, 3)
        await store.cancel(job_id, "client")
    found = await store.get_with_result(job_id)
    assert found is not None and found[1] is None and found[0].used.completion == sum(found[0].end)


async def test_what_is_stored_of_a_request_and_cannot_be_read_fails_that_job(
    store: JobStore, redis_client: Redis, sender: WakeUpSender, jobs: Jobs
) -> None:
    first, second, good = await jobs.create(), await jobs.create(), await jobs.create()
    await redis_client.hset(keys.job_request(first), "request", '{"prompts": 7}')
    await redis_client.hset(keys.job_request(second), "resolved", '{"from": "another backend"}')
    async with Harness(store, sender) as harness:
        for job_id in (first, second, good):
            harness.send(job_id)
        assert (await jobs.ended(good)).status == "completed"
        for job_id in (first, second):
            await jobs.ended(job_id)
            event = (await jobs.life(job_id))[-1]
            assert isinstance(event, Failed) and event.error.code == "unreadable_job"


async def test_a_job_that_had_a_worker_before_is_continued(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    job_id = await jobs.create(300, n=2)
    async with Harness(store, sender, name="first") as harness:
        harness.send(job_id)
        await jobs.reached(job_id, 20)
    assert (await jobs.get(job_id)).status == "queued"
    async with Harness(store, sender, name="second") as harness:
        harness.send(job_id)
        await jobs.ended(job_id)
    assert await jobs.life(job_id) == [
        Queued(),
        Started("first"),
        Requeued("drain"),
        Resumed("second", attempt=2),
        Completed(),
    ]
    assert await jobs.texts(job_id) == [scripted_text(1, choice, 300) for choice in range(2)]


REGEX = Constraint("regex", "a+", "structured_outputs.regex")


async def test_a_slow_constraint_does_not_delay_other_jobs(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    go_on = threading.Event()

    class Slow(ScriptedEngine):
        def prepare(self, request: ResolvedRequest) -> None:
            assert go_on.wait(WAIT_S)
            super().prepare(request)

    constrained, plain = await jobs.create(5, constraint=REGEX), await jobs.create(20)
    async with Harness(store, sender, kind=Slow) as harness:
        harness.send(constrained)
        harness.send(plain)
        assert (await jobs.ended(plain)).status == "completed"
        assert (await jobs.get(constrained)).status == "in_progress"
        go_on.set()
        assert (await jobs.ended(constrained)).status == "completed"
    assert await jobs.texts(constrained) == [scripted_text(1, 0, 5)]


async def test_a_constraint_that_is_refused_fails_its_job(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    class Refusing(ScriptedEngine):
        def prepare(self, request: ResolvedRequest) -> None:
            constraint = request.sampling.constraint
            assert constraint is not None
            raise invalid_request("no", param=constraint.field, code="invalid_grammar")

    job_id = await jobs.create(5, constraint=REGEX)
    async with Harness(store, sender, kind=Refusing) as harness:
        harness.send(job_id)
        await jobs.ended(job_id)
        assert harness.engine.seen == []
    event = (await jobs.life(job_id))[-1]
    assert isinstance(event, Failed)
    assert (event.error.status, event.error.code, event.error.param) == (
        400,
        "invalid_grammar",
        "structured_outputs.regex",
    )


async def test_who_goes_on_with_a_constraint_prepares_it_too(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    job_id = await jobs.create(300, constraint=REGEX)
    for name in ("first", "second"):
        async with Harness(store, sender, name=name) as harness:
            harness.send(job_id)
            await (jobs.reached(job_id, 20) if name == "first" else jobs.ended(job_id))
            (prepared,) = harness.engine.prepared
            assert prepared.sampling.constraint == REGEX
    assert await jobs.texts(job_id) == [scripted_text(1, 0, 300)]


class PausingEngine(ScriptedEngine):
    """Makes ten tokens, and then no more until it may."""

    def __init__(self, *, slots: int, step_s: float = 0.0) -> None:
        super().__init__(slots=slots, step_s=step_s)
        self.may_go_on = threading.Event()
        self.is_pausing = threading.Event()

    def step(self) -> list[ScriptedOutput]:
        if self.stats.steps == 10:
            self.is_pausing.set()
            assert self.may_go_on.wait(WAIT_S)
        return super().step()


def set_pace(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(publisher, "_PACE_S", seconds)
    monkeypatch.setattr(publisher, "_MAX_PACE_S", seconds)


async def test_steps_that_follow_soon_go_to_the_stream_together(
    store: JobStore, sender: WakeUpSender, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_pace(monkeypatch, 60.0)
    job_id = await jobs.create(30)
    async with Harness(store, sender) as harness:
        harness.send(job_id)
        await jobs.ended(job_id)
    ends = [entry.end for entry in await jobs.entries(job_id) if isinstance(entry.event, Output)]
    assert len(ends) <= 2 and ends[-1] == (30,)
    assert await jobs.texts(job_id) == [scripted_text(1, 0, 30)]


async def test_output_waiting_for_its_turn_is_written_without_further_output(
    store: JobStore, sender: WakeUpSender, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_pace(monkeypatch, 0.1)
    job_id = await jobs.create(30)
    async with Harness(store, sender, kind=PausingEngine) as harness:
        assert isinstance(harness.engine, PausingEngine)
        harness.send(job_id)
        await jobs.reached(job_id, 10)
        harness.engine.may_go_on.set()


async def test_a_drain_writes_what_waits_for_its_turn(
    store: JobStore, sender: WakeUpSender, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_pace(monkeypatch, 60.0)
    job_id = await jobs.create(1000)
    async with Harness(store, sender, kind=PausingEngine) as harness:
        assert isinstance(harness.engine, PausingEngine)
        harness.send(job_id)
        assert await asyncio.to_thread(harness.engine.is_pausing.wait, WAIT_S)
        harness.engine.may_go_on.set()
    job = await jobs.get(job_id)
    assert job.status == "queued" and job.end >= (10,)


async def test_a_drained_worker_rings_for_its_jobs_and_leaves_no_lease(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    job_id = await jobs.create(1000)
    async with Harness(store, sender) as harness:
        wake_up = harness.send(job_id)
        await jobs.reached(job_id, 5)
    assert await harness.reports(wake_up) == ["accepted", f"{job_id} requeued"]
    assert await sender.num_waiting(MODEL) == 1
    assert await store.workers() == []


async def test_a_wake_up_without_a_job_yet_is_sent_again_on_drain(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    first, second = await jobs.create(1000), await jobs.create(1000)
    async with Harness(store, sender, slots=1) as harness:
        harness.send(first)
        waiting = harness.send(second)
        await jobs.reached(first, 1)
    assert await harness.reports(waiting, 1) == ["requeued"]
    assert await sender.num_waiting(MODEL) == 2


async def test_when_only_the_terminal_event_is_missing_nothing_is_drawn(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    job_id = await jobs.create(4)
    async with Harness(store, sender) as harness:
        harness.send(job_id)
        await jobs.ended(job_id)
    await _reopen_without_terminal_event(store, job_id)
    async with Harness(store, sender, name="w2") as harness:
        harness.send(job_id)
        job = await jobs.ended(job_id)
        assert harness.engine.seen == []
    assert job.end == (4,)
    assert (await jobs.life(job_id))[-2:] == [Resumed("w2", attempt=2), Completed()]


async def _reopen_without_terminal_event(store: JobStore, job_id: str) -> None:
    """As if the worker had died between the last token and the end."""
    redis: Redis = store._redis
    last = (await store.entries(job_id))[-1]
    await redis.xdel(keys.events(job_id), last.id)
    await redis.hset(keys.job(job_id), mapping={"status": "queued", "closed_by": ""})
    await redis.zadd(keys.queued(MODEL), {job_id: 1})


async def test_cancelling_a_running_job_frees_its_slot(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    first, second = await jobs.create(3000), await jobs.create(5, seed=2)
    async with Harness(store, sender, slots=1) as harness:
        wake_up = harness.send(first)
        harness.send(second)
        await jobs.reached(first, 3)
        await store.cancel(first, "client")
        await jobs.ended(second)
        assert await harness.reports(wake_up) == ["accepted", f"{first} taken away"]
        assert harness.backend.stats.running == 0
    assert (await jobs.life(first))[-1] == Cancelled("client")
    assert sum(isinstance(event, Cancelled) for event in await jobs.life(first)) == 1


async def test_a_cancelled_queued_job_never_reaches_the_backend(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    job_id, other = await jobs.create(), await jobs.create()
    await store.cancel(job_id, "client")
    async with Harness(store, sender) as harness:
        harness.send(job_id)
        harness.send(other)
        await jobs.ended(other)
        assert len(harness.engine.seen) == 1
    assert await jobs.life(job_id) == [Queued(), Cancelled("client")]


async def test_terminating_a_running_wake_up_cancels_its_job(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    job_id = await jobs.create(3000)
    async with Harness(store, sender) as harness:
        wake_up = harness.send(job_id)
        await jobs.reached(job_id, 3)
        await harness.worker.terminate(wake_up)
        assert (await jobs.ended(job_id)).reason == "client"


async def test_terminating_a_waiting_wake_up_only_drops_it(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    first, second = await jobs.create(3000), await jobs.create(5)
    async with Harness(store, sender, slots=1) as harness:
        harness.send(first)
        waiting = harness.send(second)
        await jobs.reached(first, 3)
        await harness.worker.terminate(waiting)
        assert await harness.reports(waiting) == ["accepted", "revoked"]
        assert (await jobs.get(second)).status == "queued"
        await store.cancel(first, "client")
        harness.send(second)
        assert (await jobs.ended(second)).status == "completed"


@pytest.mark.parametrize("losses", [1, 3])
async def test_a_lost_answer_to_a_claim_loses_no_job(
    sender: WakeUpSender, jobs: Jobs, lossy: LossyStore, losses: int
) -> None:
    job_ids = [await jobs.create(5, seed=seed) for seed in range(2)]
    lossy.losses["claim"] = losses
    async with Harness(lossy, sender) as harness:
        for job_id in job_ids:
            harness.send(job_id)
        for seed, job_id in enumerate(job_ids):
            job = await jobs.ended(job_id)
            assert (job.status, job.attempts) == ("completed", 1)
            assert await jobs.texts(job_id) == [scripted_text(seed, 0, 5)]
    assert lossy.losses["claim"] == 0


async def test_lost_answers_to_appends_lose_and_double_nothing(
    sender: WakeUpSender, jobs: Jobs, lossy: LossyStore
) -> None:
    job_ids = [await jobs.create(60, seed=seed, n=2) for seed in range(3)]
    async with Harness(lossy, sender, slots=6) as harness:
        for job_id in job_ids:
            harness.send(job_id)
        for _ in range(4):
            lossy.losses["append"] = 1
            await eventually(lambda: _is_zero(lossy, "append"))
        for seed, job_id in enumerate(job_ids):
            await jobs.ended(job_id)
            assert await jobs.texts(job_id) == [scripted_text(seed, choice, 60) for choice in range(2)]
            assert (await jobs.life(job_id))[2:] == [Completed()]


async def _is_zero(lossy: LossyStore, script: str) -> bool:
    return lossy.losses[script] == 0


async def test_the_lost_answer_to_the_last_append_ends_the_job_once(
    sender: WakeUpSender, jobs: Jobs, lossy: LossyStore
) -> None:
    job_id = await jobs.create(1)
    lossy.losses["append"] = 1
    async with Harness(lossy, sender) as harness:
        wake_up = harness.send(job_id)
        assert await harness.reports(wake_up) == ["accepted", f"{job_id} completed"]
    assert await jobs.life(job_id) == [Queued(), Started("w1"), Completed()]


async def test_a_stream_that_lost_its_tail_gets_it_again(
    store: JobStore, redis_client: Redis, sender: WakeUpSender, jobs: Jobs
) -> None:
    job_id = await jobs.create(400)
    async with Harness(store, sender) as harness:
        harness.send(job_id)
        await jobs.reached(job_id, 30)
        await lose_tail(redis_client, job_id)
        await jobs.ended(job_id)
    assert await jobs.texts(job_id) == [scripted_text(1, 0, 400)]


async def test_a_reaped_worker_registers_again_and_drops_its_jobs(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    job_id = await jobs.create(3000)
    async with Harness(store, sender) as harness:
        wake_up = harness.send(job_id)
        await jobs.reached(job_id, 3)
        (worker,) = await store.workers()
        await store.release(worker.worker_instance, "worker_died", died=True)
        assert (await harness.reports(wake_up))[1].startswith(f"{job_id} taken away")
        await eventually(lambda: _has_worker(store))
        (renewed,) = await store.workers()
        assert renewed.worker_instance != worker.worker_instance
        harness.send(job_id)
        await jobs.reached(job_id, 10)
        await store.cancel(job_id, "client")
    assert [type(event) for event in await jobs.life(job_id)] == [
        Queued, Started, Requeued, Resumed, Cancelled
    ]  # fmt: skip


async def _has_worker(store: JobStore) -> bool:
    return len(await store.workers()) == 1


async def test_a_claim_whose_answer_never_came_is_given_back(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    async with Harness(store, sender):
        await eventually(lambda: _has_worker(store))
        (worker,) = await store.workers()
        job_id = await jobs.create()
        stray = await store.claim(replace(OTHER, worker_instance=worker.worker_instance), "word")
        assert isinstance(stray, Job)

        async def is_sent() -> bool:
            return await sender.num_waiting(MODEL) == 1

        await eventually(is_sent)
    assert (await jobs.life(job_id))[-1] == Requeued("given_back")


async def test_beats_tell_what_the_worker_does(store: JobStore, sender: WakeUpSender, jobs: Jobs) -> None:
    job_id = await jobs.create(2000)
    async with Harness(store, sender, slots=2) as harness:
        harness.send(job_id)

        async def is_told() -> bool:
            found = await store.workers()
            return bool(found) and found[0].stats.get("running") == 1

        await eventually(is_told)
        (worker,) = await store.workers()
        assert (worker.name, worker.slots, worker.wake_ups, worker.jobs) == ("w1", 2, 1, 1)
        assert worker.is_exact is False
        assert {
            "batch_mean", "batch_max", "tokens_total", "tokens_per_second", "running", "slots", "steps_total"
        } <= set(worker.stats)  # fmt: skip


async def test_a_backend_that_hangs_ends_the_worker(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    go_on = threading.Event()

    class Stuck(ScriptedEngine):
        def step(self) -> list[ScriptedOutput]:
            go_on.wait(WAIT_S)
            return super().step()

    backend = LocalBackend(Stuck(slots=4), scripted_resolve, model_revision="scripted-1", is_exact=True)
    died = asyncio.get_running_loop().create_future()
    worker = make_worker(
        store,
        sender,
        OTHER,
        backend,
        lease_s=3,
        on_death=died.set_result,
        on_drain=lambda: None,
        step_timeout_s=0.1,
    )
    job_id = await jobs.create()
    running = asyncio.create_task(worker.run())
    CelerySide().wake_up(job_id, worker)
    async with asyncio.timeout(WAIT_S):
        assert isinstance(await died, BackendStalled)
    go_on.set()
    await worker.drain()
    await running


async def test_a_claim_that_never_returns_ends_the_worker(
    store: JobStore, sender: WakeUpSender, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.runtime.health.watchdog._LOOK_S", 0.02)
    monkeypatch.setattr(store, "claim", lambda *_, **__: asyncio.Event().wait())
    died = asyncio.get_running_loop().create_future()
    backend = scripted_backend(slots=4)
    worker = make_worker(
        store, sender, OTHER, backend, lease_s=3, on_death=died.set_result, on_drain=lambda: None
    )
    job_id = await jobs.create()
    running = asyncio.create_task(worker.run())
    CelerySide().wake_up(job_id, worker)
    async with asyncio.timeout(WAIT_S):
        assert isinstance(await died, WorkerIdle)
    await worker.drain()
    await running


async def test_a_drain_before_the_store_answers_is_short(
    sender: WakeUpSender, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()
    monkeypatch.setattr(store, "register", lambda _lease: never.wait())
    async with asyncio.timeout(3), Harness(store, sender):
        pass


async def test_a_requested_drain_is_reported_with_the_next_beat(
    store: JobStore, sender: WakeUpSender
) -> None:
    async with Harness(store, sender) as harness:

        async def has_lease() -> bool:
            return await store.workers() != []

        await eventually(has_lease)
        (worker,) = await store.workers()
        assert not worker.is_draining and not harness.is_told_to_drain.is_set()
        assert await store.drain(worker.worker_instance)
        async with asyncio.timeout(WAIT_S):
            await harness.is_told_to_drain.wait()

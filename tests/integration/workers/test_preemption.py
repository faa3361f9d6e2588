"""A high job takes the place of a low one, which goes on afterwards as if nothing had been."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.events import Completed, Queued, Requeued, Resumed, Started
from shared.store.job_store import JobStore
from tests.integration.workers.harness import MODEL, Harness, Jobs, eventually
from tests.integration.workers.lossy_store import LossyStore
from tests.scripted_backend import scripted_text
from tests.tiny_chat_model import make_tiny_chat_model
from workers.backends.local import LocalBackend
from workers.engine.build import make_engine
from workers.engine.config import EngineConfig
from workers.engine.loading.loader import load_model
from workers.requests.resolver import Resolver


@pytest.mark.parametrize("losses", [0, 2])
async def test_a_high_job_takes_the_place_of_a_low_one_that_goes_on_afterwards(
    sender: WakeUpSender, jobs: Jobs, lossy: LossyStore, losses: int
) -> None:
    low = await jobs.create(1000, priority="low")
    async with Harness(lossy, sender, slots=1) as harness:
        wake_up = harness.send(low)
        await jobs.reached(low, 40)
        lossy.losses["claim"] = losses
        high = await jobs.create(20, seed=2, priority="high")
        assert (await jobs.ended(high)).status == "completed"
        # The publisher asks meanwhile: where the answer to the claim is late or lost, it learns of it first.
        assert (await harness.reports(wake_up))[1] in {f"{high} completed", f"{low} taken away"}
        assert not (await jobs.get(low)).is_terminal
        again = harness.send(low)
        job = await jobs.ended(low)
        assert await harness.reports(again) == ["accepted", f"{low} completed"]
    assert await jobs.life(low) == [
        Queued(),
        Started("w1"),
        Requeued("preempted"),
        Resumed("w1", attempt=2),
        Completed(),
    ]
    assert await jobs.life(high) == [Queued(), Started("w1"), Completed()]
    assert (await jobs.texts(low), await jobs.texts(high)) == (
        [scripted_text(1, 0, 1000)],
        [scripted_text(2, 0, 20)],
    )
    assert (job.deaths, job.attempts, job.num_preemptions) == (0, 2, 1)


async def test_the_low_job_that_was_accepted_last_is_preempted_and_its_slot_is_free_at_once(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    normal = await jobs.create(4000)
    lows = [await jobs.create(4000, priority="low") for _ in range(2)]
    async with Harness(store, sender, slots=3) as harness:
        for job_id in (normal, *lows):
            harness.send(job_id)
            await jobs.reached(job_id, 32)
        high = await jobs.create(3000, priority="high")
        await jobs.reached(high, 1)
        assert [(await jobs.get(job_id)).status for job_id in (normal, *lows)] == [
            "in_progress",
            "in_progress",
            "queued",
        ]
        assert harness.backend.stats.running == 3
        assert await store.queue_positions([(MODEL, lows[1])]) == [0]


async def test_a_job_that_was_preempted_three_times_stays(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    low = await jobs.create(1000, priority="low")
    async with Harness(store, sender, slots=1) as harness:
        for _ in range(3):
            harness.send(low)
            at = sum((await jobs.get(low)).end)
            await jobs.reached(low, at + 32)
            high = await jobs.create(3, priority="high")
            await jobs.ended(high)
        harness.send(low)
        last = await jobs.create(3, priority="high")
        harness.send(last)
        job = await jobs.ended(low, within_s=40)
        assert (job.status, job.num_preemptions, job.deaths, job.attempts) == ("completed", 3, 0, 4)
        await jobs.ended(last)
    assert (await jobs.life(low)).count(Requeued("preempted")) == 3
    assert await jobs.texts(low) == [scripted_text(1, 0, 1000)]


async def test_a_normal_job_preempts_nothing_and_a_normal_one_is_not_preempted(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    low = await jobs.create(4000, priority="low")
    normal = await jobs.create(4000)
    async with Harness(store, sender, slots=2) as harness:
        for job_id in (low, normal):
            harness.send(job_id)
        for job_id in (low, normal):
            await jobs.reached(job_id, 32)
        waiting = await jobs.create(3)
        await jobs.reached(low, sum((await jobs.get(low)).end) + 300)
        assert (await jobs.get(waiting)).status == "queued"
        high = [await jobs.create(3000, priority="high") for _ in range(2)]
        await jobs.reached(high[0], 300)
        assert [(await jobs.get(job_id)).status for job_id in (low, normal, high[1])] == [
            "queued",
            "in_progress",
            "queued",
        ]


async def test_a_high_job_that_is_cancelled_meanwhile_preempts_nothing(
    store: JobStore, sender: WakeUpSender, jobs: Jobs
) -> None:
    low = await jobs.create(500, priority="low")
    async with Harness(store, sender, slots=1) as harness:
        harness.send(low)
        await jobs.reached(low, 40)
        await store.cancel(await jobs.create(3, priority="high"), "client")

        async def is_over() -> bool:
            return (await jobs.get(low)).is_terminal

        await eventually(is_over, within_s=40)
    assert Requeued("preempted") not in await jobs.life(low)


async def test_a_real_model_makes_the_same_text_when_it_is_preempted(
    store: JobStore, sender: WakeUpSender, jobs: Jobs, tmp_path: Path
) -> None:
    directory = make_tiny_chat_model(tmp_path / "tiny")

    def backend() -> LocalBackend:
        config = EngineConfig(str(directory), dtype="float32", max_slots=1, threads=1)
        loaded = load_model(config)
        resolver = Resolver.from_directory(directory, loaded.revision)
        return LocalBackend(
            make_engine(loaded, config),
            resolver.resolve,
            model_revision=loaded.revision,
            is_exact=loaded.is_exact,
            fingerprint=loaded.fingerprint,
        )

    async def low() -> str:
        return await jobs.create(
            seed=7, priority="low", max_tokens=900, temperature=1.0, logit_bias={"2": -100}
        )

    async with Harness(store, sender, slots=1, backend=backend()) as harness:
        whole, preempted = await low(), await low()
        harness.send(whole)
        await jobs.ended(whole, within_s=30)
        harness.send(preempted)
        await jobs.reached(preempted, 40)
        high = await jobs.create(priority="high", max_tokens=20)
        await jobs.ended(high)
        harness.send(preempted)
        await jobs.ended(preempted, within_s=60)
    assert Requeued("preempted") in await jobs.life(preempted)
    assert await jobs.texts(preempted) == await jobs.texts(whole)

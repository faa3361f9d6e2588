"""Engines for a run: how to start their workers, and their answers without faults."""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer

from tests.acceptance.faults.harness.cluster import Cluster
from tests.acceptance.faults.harness.load import Shape, ask_all
from tests.acceptance.faults.verdict.history import Ask, Final
from tests.acceptance.faults.verdict.leftovers import final_of
from tests.acceptance.faults.verdict.reference import Recorded, Reference, Scripted
from tests.tiny_chat_model import make_tiny_chat_model

#: Of the tiny model: answers that are recorded.
_ANSWERS = 8


@dataclass(frozen=True)
class Engine:
    """One kind of worker."""

    cluster: Callable[..., Cluster]
    shape: Shape
    reference: Reference


async def scripted(_: Path) -> Engine:
    """Tokens are a hash of seed, choice and position: fast, and known beforehand."""
    return Engine(Cluster, Shape(tokens=(20, 400)), Scripted())


async def tiny(directory: Path, tokens: int = 400) -> Engine:
    """A real model of random weights; its undisturbed answers, of so many tokens, are recorded first."""
    model = await asyncio.to_thread(make_tiny_chat_model, directory / "tiny")
    answers = await _record(tiny_cluster(model), tokens)
    texts = {seed: final.texts for seed, final in answers.items()}
    rests = {seed: _rests_of(final, model) for seed, final in answers.items()}
    shape = Shape(tokens=(20, tokens), seeds=tuple(answers), stop_for=lambda seed: _stop_of(texts[seed]))
    return Engine(functools.partial(tiny_cluster, model), shape, Recorded(texts, rests))


def tiny_cluster(model: Path, **settings: str) -> Cluster:
    """Workers with this model."""
    own = {"MODEL": str(model), "DTYPE": "float32", "THREADS": "1", "WORKER_DEVICE": "cpu"}
    return Cluster(
        worker_module="tests.acceptance.faults.harness.preloaded_worker",
        worker_arguments=(),
        model="tiny",
        **{**own, **settings},  # type: ignore[arg-type]
    )


async def _record(cluster: Cluster, tokens: int) -> dict[int, Final]:
    async with cluster:
        await cluster.begin("api", "api-0")
        await cluster.begin("worker", "worker-0")
        answers: dict[int, Final] = {}
        for seed in itertools.count(1):
            (history,) = await ask_all([Ask("events", seed, tokens, tokens, n=3)], cluster.urls, "tiny")
            assert history.job_id is not None, history
            final = await final_of(cluster, history.job_id)
            assert final is not None, history
            # One in many draws the token that ends it.
            if set(final.finishes) == {"length"}:
                answers[seed] = final
            if len(answers) == _ANSWERS:
                break
    return answers


def _rests_of(final: Final, model: Path) -> tuple[tuple[str, ...], ...]:
    """For each length of each choice: what its tokens say together, beyond their texts one by one."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    return tuple(
        tuple(
            tokenizer.decode(ids[:length], skip_special_tokens=True).removeprefix("".join(texts[:length]))
            for length in range(len(ids) + 1)
        )
        for ids, texts in zip(final.token_ids, final.texts, strict=True)
    )


def _stop_of(texts: tuple[tuple[str, ...], ...]) -> str | None:
    """Some letters out of the middle of the first choice."""
    whole = "".join(texts[0])
    middle = whole[len(whole) // 2 :].strip()[:5]
    return middle if middle.isascii() and middle.isprintable() and len(middle) == 5 else None

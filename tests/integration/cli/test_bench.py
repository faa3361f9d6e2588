"""`baton bench` against two real API replicas: it counts the worker's tokens, and reports errors by kind."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.exit_codes import ExitCode
from shared.store.job_store import JobStore
from tests.fake_worker import PROMPT_TOKENS, FakeWorker, says
from tests.integration.api.server import MODEL, ApiServer
from tests.redis_server import RedisServer

WAIT_S = 40
TEXTS = ("one", " two", " three", " four", " five")


@pytest.fixture
def replicas(redis_server: RedisServer, store: JobStore) -> Iterator[tuple[ApiServer, ApiServer]]:
    del store  # empties Redis
    with ApiServer(redis_server.url, api_keys=("k1",)) as one, ApiServer(redis_server.url) as other:
        yield one, other


async def bench(directory: Path, *arguments: str) -> tuple[int, str, str]:
    """The command's exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "bench", *arguments),
        env={**os.environ, "BATON_HOME": str(directory), "ONE_API_KEY": "k1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(WAIT_S):
        out, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), errors.decode()


async def test_tokens_are_counted_as_the_worker_said_them(
    replicas: tuple[ApiServer, ApiServer], store: JobStore, tmp_path: Path
) -> None:
    targets = ["--target", f"one={replicas[0].url}", "--target", f"two={replicas[1].url}"]
    options = [
        "--concurrency",
        "1,4",
        "--requests",
        "8",
        "--rounds",
        "2",
        "--json",
        str(tmp_path / "figures"),
    ]
    async with FakeWorker(store, says(TEXTS)) as worker:
        code, out, errors = await bench(tmp_path, *targets, *options)
        assert (code, errors) == (0, ""), out
        # Two warm-ups per target, and two rounds of eight requests at both levels.
        assert worker.num_claims == 2 * (2 + 2 * 2 * 8)
    figures = json.loads((tmp_path / "figures").read_text())
    assert [target["model"] for target in figures["targets"]] == [MODEL, MODEL]
    for result in figures["results"]:
        assert (result["requests"], result["errors"], result["good"]) == (16, {}, 16)
        assert (result["tokens"], result["token_source"]) == (16 * len(TEXTS), "usage")
        assert result["prompt_tokens"] == 16 * PROMPT_TOKENS
        assert 16 <= result["chunks"] <= result["tokens"]
        assert result["first_ms"]["p50"] <= result["latency_ms"]["p50"]
        assert result["client_cpu"] > 0 and result["ratio"] > 0


async def test_arrivals_are_answered_whatever_waits(
    replicas: tuple[ApiServer, ApiServer], store: JobStore, tmp_path: Path
) -> None:
    target = f"two={replicas[1].url}#{MODEL}"
    options = ["--rate", "100", "--requests", "20", "--warm-up", "0", "--json", str(tmp_path / "figures")]
    async with FakeWorker(store, says(TEXTS, gap_s=0.02)) as worker:
        code, out, errors = await bench(tmp_path, "--target", target, *options)
        assert (code, errors, worker.num_claims) == (0, "", 20), out
    (result,) = json.loads((tmp_path / "figures").read_text())["results"]
    assert (result["rate"], result["requests"], result["tokens"]) == (100, 20, 20 * len(TEXTS))


async def test_failures_end_in_1(replicas: tuple[ApiServer, ApiServer], tmp_path: Path) -> None:
    options = ["--concurrency", "2", "--requests", "4", "--warm-up", "0"]
    refused = f"three={replicas[0].url}#{MODEL}"
    unknown = f"two={replicas[1].url}#nobody"
    code, out, errors = await bench(tmp_path, "--target", refused, "--target", unknown, *options)
    assert (code, errors) == (ExitCode.FAILED, "baton: some requests failed\n")
    assert "three at 2: 4 x status 401 invalid_api_key" in out
    assert "two at 2: 4 x status 404 model_not_found" in out

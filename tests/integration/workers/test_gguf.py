"""A real worker process that serves a GGUF file with 8-bit weights."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shared.cluster.wake_up_sender import WakeUpSender
from shared.domain.request import ChatMessage, ChatPrompt, GenerationRequest, SamplingOptions
from shared.domain.wake_up import WakeUp
from shared.store.job_store import JobStore
from tests.int8 import is_int8_served
from tests.integration.workers.harness import MODEL, Jobs, eventually
from tests.redis_server import RedisServer
from tests.tiny_gguf import write_tiny_gguf
from workers.engine.build import make_engine
from workers.engine.config import EngineConfig, Quant
from workers.engine.loading.loader import load_model
from workers.requests.resolver import Resolver

#: Where the CPU has it.
QUANT: Quant = "int8" if is_int8_served() else "none"
_REQUEST = GenerationRequest(
    (ChatPrompt((ChatMessage("user", "Hi"),)),),
    sampling=SamplingOptions(temperature=0, max_tokens=12, seed=1),
)


def expected(path: Path) -> str:
    """The answer of an engine in this process."""
    config = EngineConfig(str(path), dtype="float32", quant=QUANT, threads=1, max_slots=2)
    loaded = load_model(config)
    engine = make_engine(loaded, config)
    engine.add("r", Resolver.from_directory(path, loaded.revision).resolve(_REQUEST))
    texts: list[str] = []
    while engine.has_work:
        texts += [choice.text for output in engine.step() for choice in output.choices]
    return "".join(texts)


@pytest.mark.slow
@pytest.mark.usefixtures("redis_client")
async def test_a_worker_serves_a_gguf_file_with_int8_weights(
    redis_server: RedisServer,
    store: JobStore,
    jobs: Jobs,
    sender: WakeUpSender,
    tmp_path: Path,
) -> None:
    path = tmp_path / "tiny.gguf"
    write_tiny_gguf(path)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
    settings = {
        "BATON_REDIS_URL": redis_server.url,
        "BATON_MODEL": str(path),
        "BATON_MODEL_NAME": MODEL,
        "BATON_DTYPE": "float32",
        "BATON_QUANT": QUANT,
        "BATON_THREADS": "1",
        "BATON_MAX_SLOTS": "2",
        "BATON_WORKER_DEVICE": "cpu",
    }
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "workers.main"], env={**environ, **settings}, stdout=log, stderr=log
        )
    try:

        async def is_there() -> bool:
            assert worker.poll() is None, (tmp_path / "log").read_text()
            return any(state.pid == worker.pid for state in await store.workers())

        await eventually(is_there, 40)
        (state,) = await store.workers()
        job_id = await jobs.create(content="Hi", temperature=0, max_tokens=12)
        await sender.send([WakeUp(job_id, MODEL)])
        await jobs.ended(job_id, 20)
        assert await jobs.texts(job_id) == [expected(path)]
        assert state.fingerprint is not None and state.fingerprint.quant == QUANT
    finally:
        worker.kill()
        worker.wait()

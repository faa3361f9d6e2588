"""`make soak SECONDS=1800`: memory over time, a report, and an exit code.

make soak ARGS="--model .baton/models/SmolLM2-135M-Instruct --dtype bfloat16"
"""

from __future__ import annotations

import argparse
import random
import shlex
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import get_args

import psutil

from bench.peers.report.machine import describe_machine
from tests.soak.pool import make_pool
from tests.soak.report import MAX_GROWTH_MIB, Moment, conclusion, growth_mib, page
from tests.soak.soak import Soak, most_at_once
from tests.tiny_chat_model import make_tiny_chat_model
from workers.engine.build import make_engine
from workers.engine.config import DType, EngineConfig
from workers.engine.engine import Engine
from workers.engine.loading.loader import LoadedModel, load_model

#: So few that sequences are preempted now and then.
MAX_KV_TOKENS = 6_144
POOL_SIZE = 150
_REPORTS = 20


def load(directory: Path, dtype: DType) -> tuple[LoadedModel, EngineConfig]:
    """The model, and a configuration that is short of memory."""
    config = EngineConfig(
        str(directory), dtype=dtype, max_slots=16, max_kv_tokens=MAX_KV_TOKENS, max_model_len=1024
    )
    return load_model(config), config


def moment(seconds: float, engine: Engine, soak: Soak) -> Moment:
    cache = engine.stats.cache
    return Moment(
        seconds=round(seconds),
        checked_answers=soak.num_checked,
        continued=soak.num_continued,
        aborted=soak.num_aborted,
        preempted=cache.preempted,
        tokens_copied=cache.saved_tokens,
        rss_mib=round(psutil.Process().memory_info().rss / 2**20),
    )


def run(soak: Soak, engine: Engine, seconds: float) -> list[Moment]:
    """Run for this many seconds, then until all requests have ended."""
    begun, moments = time.monotonic(), []
    print(Moment.heading(), flush=True)
    for part in range(1, _REPORTS + 1):
        while time.monotonic() - begun < seconds * part / _REPORTS:
            soak.step()
        moments.append(moment(time.monotonic() - begun, engine, soak))
        print(moments[-1].row(), flush=True)
    soak.drain()
    return moments


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", type=Path, help="default: a tiny random one")
    parser.add_argument("--dtype", default="float32", choices=get_args(DType))
    parser.add_argument("--report", type=Path, help="page to write")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as directory:
        model = options.model or make_tiny_chat_model(Path(directory) / "tiny")
        loaded, config = load(model, options.dtype)
    plain = make_engine(loaded, replace(config, speculation="off"))
    pool = make_pool(plain, chance, POOL_SIZE, len(loaded.tokenizer))
    engine = make_engine(loaded, config)
    moments = run(Soak(engine, pool, chance), engine, options.seconds)
    num_slots = most_at_once(engine), most_at_once(make_engine(loaded, config))
    print(f"\n{conclusion(moments, num_slots)}")
    if options.report is not None:
        command = shlex.join(["python", "-m", "tests.soak", *sys.argv[1:]])
        options.report.write_text(page(command, describe_machine(), moments, num_slots))
    return int(growth_mib(moments) > MAX_GROWTH_MIB or num_slots[0] != num_slots[1])


if __name__ == "__main__":
    sys.exit(main())

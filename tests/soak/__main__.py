"""`make soak SECONDS=1800`: memory over time, and an exit code."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.soak.pool import make_pool
from tests.soak.soak import Soak
from tests.tiny_chat_model import make_tiny_chat_model
from workers.engine.config import EngineConfig
from workers.engine.engine import Engine, make_engine
from workers.engine.loader import LoadedModel, load_model

#: So few that sequences have to give their slots back now and then.
MAX_KV_TOKENS = 6_144
POOL_SIZE = 150
_REPORTS = 20
#: What the allocator may keep beside: MiB, between the second quarter and the last.
_GROWTH_MIB = 32


def load(directory: Path) -> tuple[LoadedModel, EngineConfig]:
    """The tiny chat model, and a configuration in which memory is short."""
    config = EngineConfig(
        str(directory), dtype="float32", max_slots=16, max_kv_tokens=MAX_KV_TOKENS, max_model_len=1024
    )
    return load_model(config), config


def tell(seconds: float, engine: Engine, soak: Soak, rss_mib: float) -> None:
    stats = engine.stats
    print(
        f"{seconds:6.0f} s  {soak.num_checked} answers the same, {soak.num_continued} taken up, "
        f"{soak.num_aborted} given up, {stats.cache.preempted} preempted, "
        f"{stats.cache.saved_tokens} tokens copied; {rss_mib:.0f} MiB",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as directory:
        loaded, config = load(make_tiny_chat_model(Path(directory) / "tiny"))
    pool = make_pool(make_engine(loaded, config), chance, POOL_SIZE, len(loaded.tokenizer))
    engine = make_engine(loaded, config)
    soak, begun, process = Soak(engine, pool, chance), time.monotonic(), psutil.Process()
    rss_mib: list[float] = []
    for part in range(1, _REPORTS + 1):
        while time.monotonic() - begun < options.seconds * part / _REPORTS:
            soak.step()
        rss_mib.append(process.memory_info().rss / 2**20)
        tell(time.monotonic() - begun, engine, soak, rss_mib[-1])
    soak.drain()
    quarter = _REPORTS // 4
    growth = max(rss_mib[-quarter:]) - max(rss_mib[quarter : 2 * quarter])
    print(f"growth from the second quarter to the last: {growth:.0f} MiB; nothing left over")
    return int(growth > _GROWTH_MIB)


if __name__ == "__main__":
    sys.exit(main())

"""Measures what grammars cost: engine steps in which all, some or no rows are constrained by a JSON schema.

    python -m bench.features.constrained [--model DIR] [--threads N] [--rows 32] [--steps 40] [--rounds 5]

Every round measures each mix of rows in turn, in one process. Ratios compare times of the same round: wall-clock
time, and the CPU time of all threads, which other programs disturb less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import NamedTuple

from bench.features.grammar import ARTICLE
from bench.harness.spread import spread
from shared.domain.constraint import Constraint
from shared.domain.sampling import SamplingParams
from workers.engine.build import make_engine
from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.loading.loader import load_model
from workers.engine.resolved_request import ResolvedRequest

#: Needs more tokens than the measured steps generate.
SCHEMA = {"type": "array", "items": ARTICLE, "minItems": 100}
CONSTRAINT = Constraint("json_schema", json.dumps(SCHEMA), "bench")
NUM_PROMPT = 32


def request(seed: int, temperature: float, *, is_constrained: bool) -> ResolvedRequest:
    sampling = SamplingParams(
        max_tokens=900,
        seed=seed,
        temperature=temperature,
        constraint=CONSTRAINT if is_constrained else None,
    )
    return ResolvedRequest((tuple(range(1000 + seed, 1000 + seed + NUM_PROMPT)),), sampling, (), "bench")


class StepTime(NamedTuple):
    """Median time of a step, in seconds."""

    clock: float
    cpu: float


def step_time(
    engine: Engine, num_rows: int, num_constrained: int, temperature: float, steps: int
) -> StepTime:
    """The time of a step in which `num_rows` rows decode."""
    for row in range(num_rows):
        engine.add(str(row), request(row, temperature, is_constrained=row < num_constrained))
    num_before = num_full_steps(engine, num_rows)
    while num_full_steps(engine, num_rows) == num_before:
        engine.step()
    by_clock, by_cpu = [], []
    for _ in range(steps):
        clock, cpu = time.perf_counter(), time.process_time()
        engine.step()
        by_clock.append(time.perf_counter() - clock)
        by_cpu.append(time.process_time() - cpu)
    for row in range(num_rows):
        engine.abort(str(row))
    return StepTime(statistics.median(by_clock), statistics.median(by_cpu))


def num_full_steps(engine: Engine, num_rows: int) -> int:
    """The number of steps in which `num_rows` rows generated a token."""
    return engine.stats.batch_sizes.get(num_rows, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=".baton/models/SmolLM2-135M-Instruct")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    config = EngineConfig(
        model=str(Path(arguments.model)),
        threads=arguments.threads,
        max_slots=arguments.rows,
        max_model_len=1024,
        max_step_tokens=max(256, arguments.rows),
    )
    engine = make_engine(load_model(config), config)
    engine.prepare(request(0, 0.0, is_constrained=True))
    mixes = (0, 1, arguments.rows // 2, arguments.rows)
    for temperature in (0.0, 1.0):
        rounds = [
            [step_time(engine, arguments.rows, mix, temperature, arguments.steps) for mix in mixes]
            for _ in range(arguments.rounds + 1)
        ][1:]
        print(f"temperature {temperature:g}, {arguments.rows} rows: minimum / median / maximum")
        for index, mix in enumerate(mixes):
            step_ms = spread([times[index].clock * 1e3 for times in rounds])
            by_clock = spread([times[index].clock / times[0].clock for times in rounds])
            by_cpu = spread([times[index].cpu / times[0].cpu for times in rounds])
            ratios = f"relative to no schema: clock {by_clock}, CPU {by_cpu}"
            print(f"  {mix:2d} rows with a schema: {step_ms} ms a step; {ratios}", flush=True)
    engine.close()


if __name__ == "__main__":
    main()

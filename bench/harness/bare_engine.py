"""Runs the engine alone in its own process. Reads rounds of stored requests as JSON lines and prints the results."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from shared.domain.request import GenerationRequest
from workers.engine.build import make_engine
from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.loading.loader import load_model
from workers.requests.resolver import Resolver


def run_round(engine: Engine, resolver: Resolver, bodies: list[str]) -> dict[str, float]:
    """Runs all requests at once. Returns the number of tokens, and the seconds to the first and the last one."""
    requests = [resolver.resolve(request) for request in map(GenerationRequest.decode, bodies)]
    started = time.perf_counter()
    for index, request in enumerate(requests):
        engine.add(str(index), request)
    first, tokens = 0.0, 0
    while engine.has_work:
        outputs = engine.step()
        tokens += sum(len(choice.texts) for output in outputs for choice in output.choices)
        if tokens and not first:
            first = time.perf_counter() - started
    return {"tokens": tokens, "seconds": time.perf_counter() - started, "first_s": first}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    config = EngineConfig(model=str(options.model), dtype=options.dtype, threads=options.threads)
    loaded = load_model(config)
    engine = make_engine(loaded, config)
    resolver = Resolver.from_directory(options.model, "bench", None)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        print(json.dumps(run_round(engine, resolver, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()

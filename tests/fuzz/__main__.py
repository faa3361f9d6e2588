"""`make fuzz SECONDS=300 SEED=1 PART=http`: attack, print the result, write it to docs/reports/fuzz.md.

Parts: http, redis, records, celery, models; without PART, all of them. The exit status is 1 if there is a fault.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.fuzz import celery_messages, http_api, records, redis_words, store_calls
from tests.fuzz.base_models import make_base_model
from tests.fuzz.report import section, update
from tests.fuzz.tally import Budget, Tally
from tests.fuzz.target import WholeSystem
from tests.fuzz.word_proxy import WordProxy
from tests.redis_server import RedisServer

#: Seconds for each part, if neither seconds nor tries are given.
_SECONDS = 120.0


def _http(home: Path, seed: int, budget: Budget, tally: Tally) -> None:
    with WholeSystem(make_base_model(home), **http_api.SETTINGS) as system:
        http_api.run(system, seed, budget, tally)


def _records(home: Path, seed: int, budget: Budget, tally: Tally) -> None:
    with WholeSystem(make_base_model(home)) as system:
        records.run(system, seed, budget, tally)


def _celery(home: Path, seed: int, budget: Budget, tally: Tally) -> None:
    with WholeSystem(make_base_model(home)) as system:
        celery_messages.run(system, seed, budget, tally, home)


def _redis(home: Path, seed: int, budget: Budget, tally: Tally) -> None:
    server = RedisServer()
    server.start()
    try:
        with WordProxy(lambda: server.url) as proxy:
            store_calls.run(proxy, tally)
        with (
            WordProxy(lambda: server.url) as proxy,
            WholeSystem(make_base_model(home), server.url, REDIS_URL=proxy.url) as system,
        ):
            redis_words.run(system, proxy, seed, budget, tally)
    finally:
        server.remove()


def _models(home: Path, seed: int, budget: Budget, tally: Tally) -> None:
    from tests.fuzz import models  # here, because it imports torch, which must have no threads when it forks

    bases = models.Bases.make(home)
    models.run(bases, seed, budget, tally)


_PARTS: dict[str, tuple[str, Callable[[Path, int, Budget, Tally], None]]] = {
    "http": ("HTTP", _http),
    "redis": ("Redis's error words", _redis),
    "records": ("Mutated records", _records),
    "celery": ("Celery messages", _celery),
    "models": ("Model directories", _models),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=sorted(_PARTS), action="append", help="default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--seconds", type=float, help=f"for each part; default: {_SECONDS:g}, if there is no --tries"
    )
    parser.add_argument("--tries", type=int, help="attacks of each part")
    parser.add_argument("--report", type=Path, help="page to write")
    options = parser.parse_args()
    # `timeout` ends a part as Ctrl-C does: its system stops, and its result is shown.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seconds = _SECONDS if options.seconds is None and options.tries is None else options.seconds
    is_clean = True
    for part in options.part or _PARTS:
        title, attack = _PARTS[part]
        tally, begun = Tally(), time.monotonic()
        with tempfile.TemporaryDirectory(prefix="baton-fuzz-") as home, suppress(KeyboardInterrupt):
            attack(Path(home), options.seed, Budget(options.tries, seconds), tally)
        command = shlex.join(["python", "-m", "tests.fuzz", *sys.argv[1:]])
        text = section(title, command, tally, time.monotonic() - begun)
        print(text, flush=True)
        if options.report is not None:
            update(options.report, part, text)
        is_clean = is_clean and tally.is_clean
    return int(not is_clean)


if __name__ == "__main__":
    sys.exit(main())

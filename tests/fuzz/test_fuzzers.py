"""Each fuzzer's short form: a few seconds, always the same attacks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import celery_messages, http_api, records, redis_words, store_calls
from tests.fuzz.tally import Budget, Tally
from tests.fuzz.target import SmallSystem
from tests.fuzz.word_proxy import WordProxy
from tests.redis_server import RedisServer

SEED = 1


@pytest.fixture(scope="module")
def system() -> Iterator[SmallSystem]:
    """One running system for all fuzzers that do not stand between it and Redis."""
    with SmallSystem(RECEIPT_S="1", READER_GRACE_S="1", FIRST_OUTPUT_WAIT_S="5") as running:
        yield running


def assert_clean(tally: Tally) -> None:
    assert tally.ended == []
    assert "\n".join(f"{fault.group}: {fault.what}: {fault.example}" for fault in tally.faults.values()) == ""


def test_http(system: SmallSystem) -> None:
    tally = Tally()
    http_api.run(system, SEED, Budget(tries=200), tally, batch=100)
    assert_clean(tally)
    assert tally.num_tried >= 200


def test_records(system: SmallSystem) -> None:
    tally = Tally()
    records.run(system, SEED, Budget(tries=40), tally)
    assert_clean(tally)
    assert tally.num_tried >= 40


def test_celery_messages(system: SmallSystem, tmp_path: Path) -> None:
    tally = Tally()
    celery_messages.run(system, SEED, Budget(tries=60), tally, tmp_path)
    assert_clean(tally)
    assert tally.num_tried == 60


def test_every_call_of_the_store() -> None:
    server, tally = RedisServer(), Tally()
    server.start()
    try:
        with WordProxy(lambda: server.url) as proxy:
            store_calls.run(proxy, tally)
    finally:
        server.remove()
    assert_clean(tally)
    assert tally.num_tried > 2000


# The proxy cuts connections at any moment. Python reports the streams that it finds open then, in whatever test runs.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_redis_words() -> None:
    urls: list[str] = []

    def through_proxy(url: str) -> str:
        urls.append(url)
        return proxy.url

    tally = Tally()
    with WordProxy(lambda: urls[0]) as proxy, SmallSystem(through_proxy) as system:
        redis_words.run(system, proxy, SEED, Budget(tries=2), tally)
    assert_clean(tally)
    assert tally.num_tried == 2


def test_models() -> None:
    """In a process of its own: the fuzzer forks, and this process may have threads."""
    command = [sys.executable, "-m", "tests.fuzz", "--part", "models", "--tries", "4", "--seed", str(SEED)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert ran.returncode == 0, ran.stdout + ran.stderr[-2000:]

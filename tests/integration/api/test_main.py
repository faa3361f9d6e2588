"""The process: what stops its start, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.free_port import free_port
from tests.redis_server import RedisServer


def start(**variables: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
    return subprocess.Popen(
        [sys.executable, "-m", "api.main"], env=kept | variables, stderr=subprocess.PIPE, text=True
    )


@contextmanager
def serving(redis: RedisServer) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with start(BATON_REDIS_URL=redis.url, BATON_PORT=str(port), BATON_DRAIN_S="0.3") as process:
        try:
            deadline = time.monotonic() + 20
            while not _answers(url):
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.05)
            yield process, url
        finally:
            process.kill()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "BATON_REDIS_URL is not set"),
        ({"BATON_REDIS_URL": "unix:///x", "BATON_PROT": "1"}, "BATON_PROT is not a setting"),
        ({"BATON_REDIS_URL": "unix:///x", "BATON_HOST": "203.0.113.1", "BATON_API_KEYS": "k"}, "BATON_HOST"),
    ],
)
def test_a_setting_that_cannot_be_used_ends_it_with_78(variables: dict[str, str], said: str) -> None:
    with start(**variables) as process:
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 78
    assert said in errors and errors.count("\n") == 1


def test_a_port_that_is_taken_ends_it_with_78() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with start(BATON_REDIS_URL="unix:///x", BATON_PORT=str(port)) as process:
            _, errors = process.communicate(timeout=20)
    assert process.returncode == 78
    assert errors.startswith(f"BATON_PORT {port} is taken") and errors.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(redis_server: RedisServer, number: signal.Signals) -> None:
    with serving(redis_server) as (process, url):
        secret = "a secret prompt"
        body = {"model": "nobody", "messages": [{"role": "user", "content": secret}]}
        assert httpx.post(f"{url}/v1/chat/completions", json=body).status_code == 404
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "Traceback" not in errors and secret not in errors

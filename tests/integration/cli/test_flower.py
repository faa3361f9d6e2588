"""Flower as `baton up` and its image start it: what it shows only with the password, and what it does not do at all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.free_port import free_port
from tests.redis_server import RedisServer

_AUTH = ("baton", "password")


@pytest.fixture(scope="module")
def flower(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    own = {
        "BATON_REDIS_URL": redis_server.url,
        "BATON_FLOWER_PORT": str(port),
        "BATON_FLOWER_AUTH": ":".join(_AUTH),
    }
    log = tmp_path_factory.mktemp("flower") / "log"
    with log.open("wb") as output:
        command = [sys.executable, "-P", "-m", "cli.flower_entry"]
        process = subprocess.Popen(command, env={**os.environ, **own}, stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_it_answers(url, process, log)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/healthcheck").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(log.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "path", ["/", "/workers", "/tasks", "/broker", "/metrics", "/api/tasks", "/api/workers"]
)
def test_nothing_is_shown_without_the_password(flower: str, path: str) -> None:
    assert httpx.get(f"{flower}{path}").status_code == 401
    assert httpx.get(f"{flower}{path}", auth=("baton", "wrong")).status_code == 401


def test_metrics_are_shown_with_the_password(flower: str) -> None:
    answer = httpx.get(f"{flower}/metrics", auth=_AUTH)
    assert answer.status_code == 200 and "# HELP" in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "task/send-task/baton.wake_up", "task/apply/baton.wake_up", "task/async-apply/baton.wake_up",
        "worker/queue/add-consumer/w@h?queue=other", "worker/queue/cancel-consumer/w@h?queue=other",
        "worker/pool/grow/w@h", "worker/pool/shrink/w@h", "worker/pool/autoscale/w@h", "worker/pool/restart/w@h",
    ],
)  # fmt: skip
def test_tasks_are_not_sent_and_queues_not_changed(flower: str, path: str) -> None:
    url = f"{flower}/api/{path}"
    assert httpx.post(url, json={"args": []}).status_code == 401
    refused = httpx.post(url, json={"args": []}, auth=_AUTH)
    assert refused.status_code == 403 and "Baton" in refused.text

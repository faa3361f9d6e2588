"""What clients say, and what opens doors, is in no log, no metric, not in Flower and not in Celery's keys."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.acceptance.system import System
from tests.acceptance.test_chat import body, submit, wait_for

pytestmark = pytest.mark.timeout(240)

#: Part of everything that must not be found.
CANARY = "zq7f3canary"
KEY = f"sk-{CANARY}-key"
SAID: dict[str, Any] = {
    "stop": [f"{CANARY}-stop"],
    "metadata": {f"{CANARY}-name": f"{CANARY}-value"},
    "user": f"{CANARY}-user",
}
#: Where Baton itself keeps what was said.
STORE = ("baton:job:",)


@pytest.fixture(scope="module")
def closed_system(tiny_model: Path) -> Iterator[System]:
    """A system that wants a key and logs all it can."""
    own = System(tiny_model, API_REPLICAS="1", API_KEYS=KEY, LOG_LEVEL="debug")
    own.start()
    yield own
    own.remove()


@pytest.fixture(scope="module")
def told(closed_system: System) -> Iterator[dict[str, str]]:
    """What every process told about a lively time, by where it was found."""
    system = closed_system
    url = next(part["url"] for part in system.parts() if part["role"] == "redis")
    with (
        httpx.Client(base_url=system.urls[0], timeout=60, headers={"Authorization": f"Bearer {KEY}"}) as http,
        redis.Redis.from_url(url, decode_responses=True) as store,
    ):
        output = talk(http)
        be_refused(http)
        survive_a_kill(system, http)
        waiting = ring_unheard(system, http, store)
        found = collect(system, http, store)
        # It can be found where it is.
        kept = "\n".join(
            content(store, key) for key in store.scan_iter("baton:job:*") if store.type(key) == "hash"
        )
    assert CANARY in kept and len(output) > 20
    assert {where for where, text in found.items() if output in text} == set()
    yield {**found, "a waiting wake_up": waiting}


def talk(http: httpx.Client) -> str:
    """A streamed chat and a job; answers what the model said."""
    ask = body(f"{CANARY} tell me of it", max_tokens=40, temperature=1, seed=1, **SAID)
    streamed = http.post("/v1/chat/completions", json={**ask, "stream": True})
    assert streamed.content.endswith(b"data: [DONE]\n\n"), streamed.text
    named = {"Idempotency-Key": f"{CANARY}-once"}
    asked = {"endpoint": "/v1/chat/completions", "body": ask, "priority": "low"}
    job = http.post("/v1/jobs", json=asked, headers=named).json()
    assert http.post("/v1/jobs", json=asked, headers=named).json()["id"] == job["id"]
    ended = wait_for(http, job["id"], lambda found: found["status"] == "incomplete")
    listed = http.get(f"/v1/jobs/{job['id']}/events", headers={"Accept": "application/json"})
    assert listed.json()["done"]
    return str(ended["result"]["choices"][0]["message"]["content"]).strip()


def be_refused(http: httpx.Client) -> None:
    """Every way to carry it in that is answered with an error."""
    path = "/v1/chat/completions"
    answers = [
        http.post(path, content=f'{{"{CANARY}'.encode(), headers={"Content-Type": "application/json"}),
        http.post(path, json=body(CANARY, temperature=CANARY)),
        http.post(path, json={**body(CANARY), "model": CANARY}),
        http.post(path, json=body(f"{CANARY} " * 20_000)),
        http.post(path, json=body(CANARY), headers={"Authorization": f"Bearer {CANARY}-wrong"}),
        http.get(f"/{CANARY}"),
        http.get(f"/v1/jobs/{CANARY}"),
        http.get("/v1/jobs", params={"after": CANARY}),
        http.get(f"/v1/jobs/job_{'0' * 24}/events", headers={"Last-Event-ID": CANARY}),
    ]
    assert {answer.status_code // 100 for answer in answers} == {4}
    ignored = http.post(path, json=body(CANARY, max_tokens=1, **{CANARY: 1}))
    assert (ignored.status_code, ignored.headers["x-ignored-parameters"]) == (200, CANARY)


def survive_a_kill(system: System, http: httpx.Client) -> None:
    worker = system.part_pid("worker-1")  # looked up before, as that may take as long as the answer
    job = submit(http, prompt=CANARY, max_tokens=600)
    wait_for(http, job["id"], lambda found: found["status"] == "in_progress")
    os.kill(worker, signal.SIGKILL)
    ended = wait_for(http, job["id"], lambda found: found["status"] == "incomplete", 60)
    assert ended["attempts"] == 2


def ring_unheard(system: System, http: httpx.Client, store: redis.Redis) -> str:
    """A wake-up as it waits in Redis."""
    worker = system.part_pid("worker-1")
    os.kill(worker, signal.SIGSTOP)
    try:
        submit(http, prompt=CANARY, max_tokens=2)
        system.wait_until(lambda: store.llen("baton:baton.tiny") > 0, 10)
        return json.dumps(store.lrange("baton:baton.tiny", 0, -1))
    finally:
        os.kill(worker, signal.SIGCONT)


def collect(system: System, http: httpx.Client, store: redis.Redis) -> dict[str, str]:
    logs = [*sorted((system.home / "logs").iterdir()), system.home / "up.log"]
    found = {f"log {path.name}": path.read_text(errors="replace") for path in logs}
    found["/metrics"] = http.get("/metrics").text
    user, password = (system.home / "flower.password").read_text().strip().split(":", 1)
    with httpx.Client(base_url=system.flower_url, auth=(user, password), timeout=20) as flower:
        tasks = flower.get("/api/tasks")
        for path in ("/api/workers?refresh=1", "/metrics", "/tasks", "/workers", "/broker"):
            answer = flower.get(path)
            assert answer.status_code == 200, (path, answer.text)
            found[f"flower {path}"] = answer.text
    assert len(tasks.json()) >= 3
    found["flower /api/tasks"] = tasks.text
    for task_id in tasks.json():
        found[f"flower {task_id}"] = httpx.get(
            f"{system.flower_url}/api/task/info/{task_id}", auth=(user, password), timeout=20
        ).text
    for process in system.processes():
        found[f"command line of {process.pid}"] = " ".join(process.cmdline())
    found["redis"] = "\n".join(
        f"{key} {content(store, key)}" for key in store.scan_iter(count=1000) if not key.startswith(STORE)
    )
    return found


def content(store: redis.Redis, key: str) -> str:
    read: Any = {
        "string": lambda: store.get(key),
        "list": lambda: store.lrange(key, 0, -1),
        "set": lambda: sorted(store.smembers(key)),
        "hash": lambda: store.hgetall(key),
        "zset": lambda: store.zrange(key, 0, -1),
        "none": lambda: None,
    }
    return json.dumps(read[store.type(key)]())


def test_no_prompt_or_output_is_logged(told: dict[str, str]) -> None:
    assert {where for where, text in told.items() if CANARY in text} == set()


def test_no_password_is_logged(closed_system: System, told: dict[str, str]) -> None:
    password = (closed_system.home / "flower.password").read_text().strip().partition(":")[2]
    # `baton up` shows it once, to the person who started it.
    assert {where for where, text in told.items() if password in text} <= {"log up.log"}
    assert password not in (closed_system.home / "logs" / "up.log").read_text()


def test_every_line_of_our_logs_is_an_object(closed_system: System, told: dict[str, str]) -> None:
    assert "log worker-1.log" in told
    roles = {}
    for path in sorted((closed_system.home / "logs").glob("*.log")):
        if path.stem == "redis":
            continue
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert all({"time", "level", "logger", "message", "role", "process"} <= set(line) for line in lines)
        roles[path.stem] = {line["role"] for line in lines}
    assert roles == {
        "api-1": {"api"}, "worker-1": {"worker"}, "flower": {"flower"}, "up": {"supervisor"}
    }  # fmt: skip


def test_a_job_can_be_followed_through_the_logs(closed_system: System, told: dict[str, str]) -> None:
    logs = closed_system.home / "logs"
    by_role = {
        role: {json.loads(line).get("job_id") for line in (logs / f"{role}.log").read_text().splitlines()}
        for role in ("api-1", "worker-1")
    }
    assert "log api-1.log" in told
    assert len((by_role["api-1"] & by_role["worker-1"]) - {None}) >= 3

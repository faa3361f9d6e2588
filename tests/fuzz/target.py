"""Target: a running system under attack, and what must still be so afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import httpx
import psutil
import redis

from tests.acceptance.system import System
from tests.free_port import free_port
from tests.redis_server import RedisServer

CHAT, JOBS = "/v1/chat/completions", "/v1/jobs"
#: Length of the answer that a healthy system gives again and again, in tokens.
_ANSWER = 12
_START_S = 60.0


def chat(model: str, **fields: Any) -> dict[str, Any]:
    """A chat's body."""
    messages = [{"role": "user", "content": "count to 12"}]
    return {"model": model, "messages": messages, "max_tokens": 12, "temperature": 0, "seed": 5, **fields}


class Target(Protocol):
    """What fuzzers need of a system."""

    model: str
    url: str
    #: Directly, past any proxy.
    redis: redis.Redis

    def ended(self) -> list[str]:
        """Return the parts that have ended since the last call. They are started again."""


class Health:
    """Asks a target the same question again and again."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._http = httpx.Client(base_url=target.url, timeout=30, trust_env=False)
        self.expected = self.answer(within_s=_START_S)
        assert self.expected, "the target does not answer before the first attack"

    def answer(self, within_s: float) -> str | None:
        """Return the answer's text, or None if there is none in time. Refusals are repeated."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            try:
                reply = self._http.post(CHAT, json=chat(self._target.model), timeout=within_s)
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if reply.status_code == 200:
                text = reply.json()["choices"][0]["message"]["content"]
                return text if isinstance(text, str) else None
            time.sleep(0.05)
        return None

    def fault(self, within_s: float = 20.0) -> str | None:
        """Say what is wrong. None: the system answers as it did at first."""
        found = self.answer(within_s)
        if found is None:
            return f"no answer within {within_s:g} s"
        return None if found == self.expected else "another answer than before the attack"

    def close(self) -> None:
        self._http.close()


class WholeSystem:
    """`baton up` with a tiny model: supervisor, Redis, one API replica, one worker, Flower."""

    def __init__(self, model_path: Path, redis_url: str | None = None, **settings: str) -> None:
        """`redis_url`: past any proxy that the settings name. None: the system's own Redis."""
        self.model = "tiny"
        self._system = System(model_path, API_REPLICAS="1", **settings)
        self._redis_url = redis_url
        self._processes: dict[str, psutil.Process] = {}

    def __enter__(self) -> WholeSystem:
        try:
            self._system.start()
        except BaseException:
            self._system.remove()
            raise
        self.url = self._system.urls[0]
        parts = self._system.parts()
        url = self._redis_url or next(part["url"] for part in parts if part["role"] == "redis")
        self.redis = redis.Redis.from_url(url)
        self._note_processes()
        return self

    def __exit__(self, *_: object) -> None:
        self.redis.close()
        self._system.remove()

    def ended(self) -> list[str]:
        """`baton up` starts the others again. If they do not stay, its Redis is emptied."""
        over = [name for name, process in self._processes.items() if not _is_alive(process)]
        if not over:
            return []
        logs = self._system.home / "logs"
        found = [f"{name}: {_last_error(logs / f'{name}.log')}" for name in over if name != "baton up"]
        if self._is_back_within(_START_S):
            return found
        if _is_alive(self._processes["baton up"]):
            found.append("none of its next lives is longer, until Redis is emptied")
            self.redis.flushall()
            if self._is_back_within(_START_S):
                return found
        errors = [line for line in self.log().splitlines() if "Error" in line]
        found.append("baton up: " + "".join(errors[-1:]))
        self._begin_again()
        return found

    def _is_back_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while _is_alive(self._processes["baton up"]) and time.monotonic() < deadline:
            if self._are_back():
                return True
            time.sleep(0.1)
        return False

    def _begin_again(self) -> None:
        """A new `baton up` with the same addresses, on an empty Redis."""
        if _is_alive(self._processes["baton up"]):
            self._system.stop()
        for file in (self._system.home / "redis").glob("appendonly*"):
            file.unlink()
        self._system.start()
        self._note_processes()

    def _note_processes(self) -> None:
        self._processes = {part["id"]: psutil.Process(int(part["pid"])) for part in self._system.parts()}
        self._processes["baton up"] = psutil.Process(self._system.pid)

    def _are_back(self) -> bool:
        if not self._system.is_ready():
            return False
        parts = self._system.parts()
        if any(part["pid"] is None for part in parts):
            return False
        self._processes |= {part["id"]: psutil.Process(int(part["pid"])) for part in parts}
        return True

    def log(self) -> str:
        return self._system.log()

    @property
    def home(self) -> Path:
        return self._system.home


class SmallSystem:
    """Redis, one API replica and one worker with a scripted engine. It starts in a few seconds."""

    def __init__(self, redis_url: Callable[[str], str] | None = None, **settings: str) -> None:
        """`redis_url`: what the processes use instead of the server's own, such as a proxy's."""
        self.model = "scripted"
        self.home = Path(tempfile.mkdtemp(prefix="baton-fuzz-"))
        self._redis_url = redis_url
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._settings = {"MODEL": self.model, "MODEL_NAME": self.model, "LEASE_S": "1", **settings}
        self._server = RedisServer()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> SmallSystem:
        self._server.start()
        self.redis = redis.Redis.from_url(self._server.url)
        try:
            for name in ("api", "worker"):
                self._start(name)
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running.values():
            process.kill()
            process.wait()
        self.redis.close()
        self._server.remove()

    def ended(self) -> list[str]:
        over = [name for name, process in self._running.items() if process.poll() is not None]
        for name in over:
            self._start(name)
        if over:
            self._wait_until_ready()
        return [f"{name}: {_last_error(self.home / f'{name}.log')}" for name in over]

    def log(self) -> str:
        return "\n".join(
            (self.home / f"{name}.log").read_text(errors="replace")[-3000:] for name in self._running
        )

    def _start(self, name: str) -> None:
        module = {"api": "api.main", "worker": "tests.scripted_worker"}[name]
        own = {"api": {"PORT": str(self._port)}, "worker": {"WORKER_NAME": "w0", "MAX_SLOTS": "16"}}[name]
        settings = {
            **self._settings,
            **own,
            "REDIS_URL": self._redis_url(self._server.url) if self._redis_url else self._server.url,
        }
        environ = {key: value for key, value in os.environ.items() if not key.startswith("BATON_")}
        with (self.home / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, "-m", module],
                env={**environ, **{f"BATON_{key}": value for key, value in settings.items()}},
                stdout=log,
                stderr=log,
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_S
        while not (self._is_up() and self.redis.smembers("baton:workers")):
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    def _is_up(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health/live", timeout=5, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


def _last_error(log: Path) -> str:
    """The last exception in a process's log, and the last two places of ours or of libraries that it went through."""
    found = "no exception in its log"
    for line in log.read_text(errors="replace").splitlines():
        entry = json.loads(line) if line.startswith("{") else {}
        if error := entry.get("error"):
            places = [
                place.rpartition("/site-packages/")[2].removeprefix(f"{Path.cwd()}/")
                for place in error["trace"]
            ]
            found = f"{entry['message'][:60]}: {error['type']} at {' < '.join(places[-1:-3:-1])}"
    return found


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

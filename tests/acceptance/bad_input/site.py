"""Site: a running system under bad input, and a client that can send anything."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import psutil
import redis

from shared.store import keys
from tests.acceptance.system import System

MINE, THEIRS, NEIGHBOUR = "sk-mine", "sk-theirs", "sk-neighbour"
CHAT, JOBS = "/v1/chat/completions", "/v1/jobs"
MAX_READERS = 6
#: Changed settings of the system. Bodies keep their limit of 4 MiB.
SETTINGS = {
    "API_REPLICAS": "1",
    "API_KEYS": f"{MINE},{THEIRS},{NEIGHBOUR}",
    "RECEIPT_S": "2",
    "MAX_READERS": str(MAX_READERS),
}


@dataclass(frozen=True)
class Reply:
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Site:
    """Speaks to the first replica, as the owner of MINE unless told otherwise."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.address = ("127.0.0.1", int(urlsplit(system.urls[0]).port or 0))
        parts = system.parts()
        self._processes = [psutil.Process(int(part["pid"])) for part in parts if part["role"] != "flower"]
        self.redis = redis.Redis.from_url(next(part["url"] for part in parts if part["role"] == "redis"))
        self._instances = self.redis.smembers(keys.WORKERS)

    def is_unharmed(self) -> bool:
        """Whether the processes, and the one worker in its one life, are those of the beginning."""
        are_running = all(process.is_running() for process in self._processes)
        return are_running and self.redis.smembers(keys.WORKERS) == self._instances

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=20)

    def exchange(self, raw: bytes) -> Reply:
        """Send bytes and read one answer."""
        with self.connect() as connection:
            connection.sendall(raw)
            return read_reply(connection)

    def request(
        self, method: str, path: str, body: Any = None, *, key: str | None = MINE, **headers: str
    ) -> Reply:
        """Send a request: a body of bytes goes out as it is, any other as JSON."""
        return self.exchange(request(method, path, body, key=key, **headers))

    def submit(self, *, key: str = MINE, **fields: Any) -> str:
        """The id of a new job."""
        reply = self.request("POST", JOBS, {"endpoint": CHAT, "body": chat(**fields)}, key=key)
        assert reply.status == 202, reply
        job_id = reply.json["id"]
        assert isinstance(job_id, str)
        return job_id

    def finished(self, **fields: Any) -> tuple[str, str]:
        """The id of a job that is over, and the last event id of its chat."""
        reply = self.request("POST", CHAT, chat(stream=True, **fields))
        event_ids = re.findall(rb"^id: (\S+)$", reply.body, re.MULTILINE)
        return reply.headers["x-job-id"], event_ids[-1].decode()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < deadline, self.system.log()
            time.sleep(0.05)


def chat(**fields: Any) -> dict[str, Any]:
    """A chat's body."""
    messages = [{"role": "user", "content": "count"}]
    return {"model": "tiny", "messages": messages, "max_tokens": 4, "temperature": 0, **fields}


def request(
    method: str, path: str, body: Any = None, *, key: str | None = MINE, http: str = "1.1", **headers: str
) -> bytes:
    """A request's bytes. In names of headers, `_` stands for `-`."""
    payload = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = {"host": "baton", "content-type": "application/json", "content-length": str(len(payload))}
    if key is not None:
        lines["authorization"] = f"Bearer {key}"
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/{http}\r\n{head}\r\n".encode("latin-1") + payload


def read_reply(connection: socket.socket) -> Reply:
    """One answer: to its length, its last chunk, or the connection's end."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}
    status = int(status_line.split()[1])
    if status == 204:
        return Reply(status, headers, body)
    if "content-length" in headers:
        while len(body) < int(headers["content-length"]):
            body += _more(connection)
    elif headers.get("transfer-encoding") == "chunked":
        while not body.endswith(b"0\r\n\r\n"):
            body += _more(connection)
        body = _joined(body)
    else:
        while chunk := connection.recv(65536):
            body += chunk
    return Reply(status, headers, body)


def _more(connection: socket.socket) -> bytes:
    received = connection.recv(65536)
    assert received, "the connection ended within an answer"
    return received


def _joined(chunked: bytes) -> bytes:
    body = b""
    while chunked:
        size, _, rest = chunked.partition(b"\r\n")
        body += rest[: int(size, 16)]
        chunked = rest[int(size, 16) + 2 :]
    return body

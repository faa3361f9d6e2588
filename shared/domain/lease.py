"""Lease: a worker's registration, and what the store knows about a registered worker."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.domain.fingerprint import Fingerprint
from shared.errors import DecodeError, require_text


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's registration, as `JobStore.register` writes it."""

    worker_instance: str
    #: The worker's name, as `baton ps` shows it. It stays the same after a restart.
    name: str
    model: str
    host: str
    pid: int
    device: str
    slots: int
    model_revision: str
    #: Whether an answer that this worker continues equals the uninterrupted answer.
    is_exact: bool = False
    #: Workers with the same fingerprint continue each other's answers exactly. None: unknown.
    fingerprint: Fingerprint | None = None
    #: Whether the backend can continue an interrupted answer. If it cannot, a job that has released output is never
    #: paused or preempted.
    can_continue: bool = True
    #: Maximum number of tokens of prompt and answer together. None: unknown.
    max_model_len: int | None = None


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A registered worker instance, as the store knows it."""

    worker_instance: str
    name: str
    model: str
    host: str
    pid: int
    device: str
    slots: int
    is_exact: bool
    #: Increases with every heartbeat.
    beat: int
    steps: int
    #: Celery messages that the worker received and has not acknowledged.
    wake_ups: int
    jobs: int
    stats: Mapping[str, Any] = field(default_factory=dict)
    #: Whether it was asked to drain.
    is_draining: bool = False
    #: None: unknown.
    fingerprint: Fingerprint | None = None
    model_revision: str = ""
    #: The version of stored requests that it reads.
    reads: int = 1
    #: Maximum number of tokens of prompt and answer together. None: unknown.
    max_model_len: int | None = None

    @classmethod
    def decode(cls, worker_instance: str, record: Mapping[str, str], jobs: int) -> WorkerState:
        """Decode the hash `worker:<worker instance>`. Raises DecodeError."""
        try:
            require_text({"name": worker_instance, **record})
            return cls(
                worker_instance=worker_instance,
                name=record["name"],
                model=record["model"],
                host=record["host"],
                pid=int(record["pid"]),
                device=record["device"],
                slots=int(record["slots"]),
                is_exact=record["exact"] == "1",
                beat=int(record["beat"]),
                steps=int(record.get("steps", 0)),
                wake_ups=int(record.get("wake_ups", 0)),
                jobs=jobs,
                stats=json.loads(record.get("stats", "{}")),
                is_draining=record.get("drain") == "1",
                fingerprint=_fingerprint(record.get("computes")),
                model_revision=record.get("revision", ""),
                reads=int(record.get("reads", 1)),
                max_model_len=int(record["context"]) if record.get("context") else None,
            )
        except (KeyError, ValueError) as error:
            raise DecodeError("worker", dict(record)) from error

    def to_json(self) -> dict[str, Any]:
        """Return the form that `/v1/workers` and `baton workers --json` show."""
        return {
            "id": self.worker_instance,
            "object": "worker",
            "name": self.name,
            "host": self.host,
            "pid": self.pid,
            "device": self.device,
            "model": self.model,
            "status": "draining" if self.is_draining else "ready",
            "jobs": self.jobs,
            "slots": self.slots,
            "exact": self.is_exact,
            "fingerprint": None if self.fingerprint is None else self.fingerprint.to_json(),
            "stats": dict(self.stats),
        }


def _fingerprint(raw: str | None) -> Fingerprint | None:
    """Return None also for a fingerprint that this version cannot read."""
    try:
        return None if raw is None else Fingerprint.decode(raw)
    except DecodeError:
        return None


@dataclass(frozen=True, slots=True)
class BeatAnswer:
    """The reply to a worker's heartbeat."""

    #: Jobs that the store assigns to the worker and that the worker did not report, with their claim tokens.
    strays: Mapping[str, str]
    #: Whether the worker was asked to drain.
    is_draining: bool


def find_by_name(workers: Iterable[WorkerState], text: str) -> list[WorkerState]:
    """Return the workers whose worker instance, name or name@host is `text`."""
    return [w for w in workers if text in (w.worker_instance, w.name, f"{w.name}@{w.host}")]

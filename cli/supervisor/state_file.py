"""The file in which `baton up` publishes its processes, for `baton ps` and for scripts."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from shared.errors import DecodeError

Role = Literal["redis", "api", "worker", "flower"]
State = Literal["starting", "ready", "restarting", "drained", "stopped", "failed"]


@dataclass(frozen=True, slots=True)
class ChildState:
    """One process that `baton up` runs, or is about to start again."""

    role: Role
    id: str
    #: None while it is not running.
    pid: int | None
    url: str | None
    device: str | None
    state: State

    @classmethod
    def decode(cls, fields: object) -> ChildState:
        """Raises DecodeError."""
        try:
            state = cls(**fields)  # type: ignore[arg-type]  # the except handles wrong shapes
        except TypeError as error:
            raise DecodeError("state of a part", fields) from error
        if state.role not in get_args(Role) or state.state not in get_args(State):
            raise DecodeError("state of a part", fields)
        return state


class StateFile:
    """`$BATON_HOME/run/up.json`: a JSON list of ChildState, replaced atomically."""

    def __init__(self, home: Path) -> None:
        self._path = home / "run" / "up.json"

    def write(self, children: Iterable[ChildState]) -> None:
        """Readers see the old list or the new one, never a partial one."""
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps([asdict(child) for child in children], indent=1) + "\n", encoding="utf-8")
        os.replace(new, self._path)

    def read(self) -> list[ChildState]:
        """Empty if `baton up` was never run in this home. Raises DecodeError."""
        try:
            raw = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        try:
            return [ChildState.decode(fields) for fields in json.loads(raw)]
        except (ValueError, TypeError) as error:
            raise DecodeError("up.json", raw) from error

"""Peer: a server that is measured, and how it is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.errors import BatonError


class PeerUnavailable(BatonError):
    """Raised when a peer cannot be had or does not run here; the message says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Speaks OpenAI's chat completions under /v1."""

    name: str
    #: What was measured, with its version.
    version: str
    #: `{port}` stands for a free port.
    command: tuple[str, ...]
    #: What clients call the model.
    model: str
    environ: Mapping[str, str] = field(default_factory=dict)
    #: Fields of a request that it needs beside those that all get.
    extra: Mapping[str, Any] = field(default_factory=dict)

"""Describes how to start a server that is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.errors import BatonError


class PeerUnavailable(BatonError):
    """Raised when a server cannot be installed or does not run here. The message says why."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server with OpenAI's chat completions API under /v1."""

    name: str
    #: The software and its version.
    version: str
    #: `{port}` stands for a free port.
    command: tuple[str, ...]
    #: The model name that clients send.
    model: str
    environ: Mapping[str, str] = field(default_factory=dict)
    #: Request fields that this server needs in addition to the common ones.
    extra: Mapping[str, Any] = field(default_factory=dict)

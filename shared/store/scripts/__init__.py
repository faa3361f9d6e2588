"""The Lua scripts of the store. Only they change jobs."""

from __future__ import annotations

from importlib import resources
from typing import Literal

from shared.store import keys

ScriptName = Literal[
    "create", "withdraw", "bind", "register", "claim", "append", "requeue", "release", "cancel", "beat", "audit",
    "join", "leave", "forget", "drain", "promote", "look", "survey", "keep_result",
    "register_replica", "beat_replica", "release_replica",
]  # fmt: skip


def source(name: ScriptName) -> str:
    """Return the complete text of a script: the names of shared.store.keys, the prelude, and the script itself."""
    folder = resources.files(__package__)
    return (
        keys.lua_names()
        + (folder / "prelude.lua").read_text(encoding="utf-8")
        + (folder / f"{name}.lua").read_text(encoding="utf-8")
    )

"""The Lua scripts of the store: the only code that changes a job."""

from __future__ import annotations

from importlib import resources
from typing import Literal

from shared.store import keys

ScriptName = Literal[
    "create", "bind", "register", "claim", "append", "requeue", "release", "cancel", "beat", "audit", "join", "leave",
    "forget", "drain", "promote", "look", "survey", "keep_result",
    "register_replica", "beat_replica", "release_replica",
]  # fmt: skip


def source(name: ScriptName) -> str:
    """The whole text of a script: names made by shared.store.keys, the prelude, the script itself."""
    folder = resources.files(__package__)
    return keys.lua_names() + (folder / "prelude.lua").read_text() + (folder / f"{name}.lua").read_text()

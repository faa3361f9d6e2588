"""Ids of chat completions and of tool calls. They are functions of the job, so every replica shows the same."""

from __future__ import annotations

import hashlib

from api.dialects.object_ids import ObjectIds

_IDS = ObjectIds("chatcmpl-")
completion_id, job_id_of = _IDS.of, _IDS.job_id


def call_id(job_id: str, choice: int, call: int) -> str:
    """The id of a choice's tool call, where the backend gives none."""
    return "call_" + hashlib.blake2b(f"{job_id}/{choice}/{call}".encode(), digest_size=12).hexdigest()

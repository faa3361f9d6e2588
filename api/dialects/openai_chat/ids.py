"""Ids of chat completions and of tool calls. They are functions of the job, so every replica shows the same."""

from __future__ import annotations

import hashlib

_JOB_PREFIX, _CHAT_PREFIX = "job_", "chatcmpl-"


def completion_id(job_id: str) -> str:
    """The id of a job's chat completion: the job's with another prefix."""
    return _CHAT_PREFIX + job_id.removeprefix(_JOB_PREFIX)


def job_id_of(object_id: str) -> str | None:
    """The inverse of `completion_id`; None for an id of another form."""
    return _JOB_PREFIX + object_id.removeprefix(_CHAT_PREFIX) if object_id.startswith(_CHAT_PREFIX) else None


def call_id(job_id: str, choice: int, call: int) -> str:
    """The id of a choice's tool call, where the backend gives none."""
    return "call_" + hashlib.blake2b(f"{job_id}/{choice}/{call}".encode(), digest_size=12).hexdigest()

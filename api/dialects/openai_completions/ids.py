"""Ids of text completions. They are functions of the job, so every replica shows the same."""

from __future__ import annotations

_JOB_PREFIX, _COMPLETION_PREFIX = "job_", "cmpl-"


def completion_id(job_id: str) -> str:
    """The id of a job's completion: the job's with another prefix."""
    return _COMPLETION_PREFIX + job_id.removeprefix(_JOB_PREFIX)


def job_id_of(object_id: str) -> str | None:
    """The inverse of `completion_id`; None for an id of another form."""
    if not object_id.startswith(_COMPLETION_PREFIX):
        return None
    return _JOB_PREFIX + object_id.removeprefix(_COMPLETION_PREFIX)

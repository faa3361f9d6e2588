"""Ids of text completions. They are functions of the job, so every replica shows the same."""

from __future__ import annotations

from api.dialects.object_ids import ObjectIds

_IDS = ObjectIds("cmpl-")
completion_id, job_id_of = _IDS.of, _IDS.job_id

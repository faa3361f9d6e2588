"""ObjectIds: the ids under which a dialect's clients know jobs. They are the jobs' own with another prefix."""

from __future__ import annotations

from dataclasses import dataclass

_JOB_PREFIX = "job_"


@dataclass(frozen=True, slots=True)
class ObjectIds:
    """The ids of one kind of object, which begin with `prefix`."""

    prefix: str

    def of(self, job_id: str) -> str:
        """The object's id."""
        return self.prefix + job_id.removeprefix(_JOB_PREFIX)

    def job_id(self, object_id: str) -> str | None:
        """The inverse of `of`; None for an id of another form."""
        return (
            _JOB_PREFIX + object_id.removeprefix(self.prefix) if object_id.startswith(self.prefix) else None
        )

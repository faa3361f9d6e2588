"""Jobs: Baton's own dialect. It wraps the dialect of the endpoint that a job is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from api.dialects.base import ItemReader, JobInfo, Parsed, View
from api.dialects.jobs.encoder import JobEventEncoder
from api.dialects.jobs.job_object import job_object
from api.dialects.jobs.schema import JobRequest, read_job
from api.dialects.registry import Dialects
from api.streaming.cursor import Cursor
from api.streaming.queue_position import QueuePosition
from shared.domain.job import Job
from shared.domain.result import Result
from shared.errors import invalid_value


@dataclass(frozen=True, slots=True)
class ParsedJob:
    """A job's body, read."""

    job: JobRequest
    #: The request in `body`. Its metadata are the job's.
    parsed: Parsed


class Jobs:
    """Implements `api.dialects.base.StreamDialect`; its objects show what only a stored job has."""

    def __init__(self, dialects: Dialects) -> None:
        self._dialects = dialects

    def parse(self, fields: dict[str, Any]) -> ParsedJob:
        """Read a job with its body. Raises RequestError (400)."""
        job = read_job(fields)
        dialect = self._dialects.find(job.endpoint)
        if dialect is None:
            expected = " or ".join(f"'{endpoint}'" for endpoint in self._dialects.endpoints)
            raise invalid_value("endpoint", f"expected {expected}")
        return ParsedJob(job, dialect.parse(job.body, prefix="body."))

    def encoder(self, job: JobInfo, view: View, start: Cursor, items: ItemReader) -> JobEventEncoder:
        """Raises RequestError (503) for an endpoint of a newer version."""
        return JobEventEncoder(job, self._dialects.of(job.endpoint).encoder(job, view, start, items))

    def object(
        self, job: Job, position: QueuePosition | None, result: Result | None, *, shows_output: bool
    ) -> dict[str, Any]:
        """The job with the endpoint's own object as its result; without it for an endpoint of a newer version."""
        return job_object(job, position, self._dialects.find(job.endpoint), result, shows_output=shows_output)

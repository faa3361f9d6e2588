"""Exchange: one request, and what it takes to answer it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import Request

from api.dialects.jobs.dialect import Jobs
from api.dialects.registry import Dialects
from api.http.auth import Principal
from api.http.ignored_parameters import header_value
from api.http.validation import unknown_parameter
from api.lifespan import Services
from api.metrics.registry import Metrics
from api.settings import ApiSettings


@dataclass(frozen=True, slots=True)
class Exchange:
    """The collaborators of one request."""

    request: Request
    principal: Principal
    services: Services
    settings: ApiSettings
    metrics: Metrics
    dialects: Dialects

    @property
    def jobs(self) -> Jobs:
        """The dialect of `/v1/jobs`."""
        return Jobs(self.dialects)

    def name_job(self, job_id: str) -> None:
        """Send `x-job-id` with the response."""
        self.request.state.job_id = job_id

    def report_ignored(self, ignored: Sequence[str]) -> None:
        """Send the names of ignored fields with the response, and count them.

        Raises RequestError (400) where unknown fields are refused.
        """
        if not ignored:
            return
        if self.settings.strict_parameters:
            raise unknown_parameter(ignored[0])
        self.request.state.ignored_parameters = header_value(ignored)
        self.metrics.ignored(ignored)

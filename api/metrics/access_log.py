"""AccessLogMiddleware: counts each request and logs one line about it once its response has ended."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics.registry import Metrics
from api.metrics.request_record import RequestRecord

logger = logging.getLogger(__name__)

#: Routes that are polled by machines, logged at the level debug.
_PROBES = ("/health", "/metrics")


class AccessLogMiddleware:
    """Pure ASGI; the outermost layer of the app."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        record = RequestRecord(scope)

        async def watched(message: Message) -> None:
            record.see(message)
            if message["type"] == "http.response.start":
                self._metrics.begun(record)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._end(record)

    def _end(self, record: RequestRecord) -> None:
        if record.status is not None:
            self._metrics.ended(record)
        level = logging.DEBUG if record.route.startswith(_PROBES) else logging.INFO
        if not logger.isEnabledFor(level):
            return
        fields = {
            "method": record.method,
            "route": record.route,
            "status": record.status,
            "duration_s": round(record.duration_s, 4),
            "complete": record.is_complete,
        }
        told = {"job_id": record.job_id, "error_code": record.error_code}
        fields |= {name: value for name, value in told.items() if value is not None}
        logger.log(level, "%s %s %s", record.method, record.route, record.status, extra={"fields": fields})

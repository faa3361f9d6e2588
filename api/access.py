"""Access: counts each request and writes one line about it, when its answer is over."""

from __future__ import annotations

import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import Metrics
from api.visit import Visit

logger = logging.getLogger(__name__)

#: Routes that machines ask over and over: told at the level debug.
_PROBES = ("/health", "/metrics")


class Access:
    """Pure ASGI; the outermost layer of the app."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        visit = Visit(scope)

        async def watched(message: Message) -> None:
            visit.see(message)
            if message["type"] == "http.response.start":
                self._metrics.begun(visit)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._end(visit)

    def _end(self, visit: Visit) -> None:
        if visit.status is not None:
            self._metrics.ended(visit)
        level = logging.DEBUG if visit.route.startswith(_PROBES) else logging.INFO
        if not logger.isEnabledFor(level):
            return
        fields = {
            "method": visit.method,
            "route": visit.route,
            "status": visit.status,
            "duration_s": round(visit.duration_s, 4),
            "complete": visit.is_complete,
        }
        told = {"job_id": visit.job_id, "error_code": visit.error_code}
        fields |= {name: value for name, value in told.items() if value is not None}
        logger.log(level, "%s %s %s", visit.method, visit.route, visit.status, extra={"fields": fields})

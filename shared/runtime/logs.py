"""Logs: one line for each event on stderr, as JSON or text. Logs never contain prompts, outputs or keys.

For an exception, the type and the traceback are logged, but not the text, which may quote what a client sent.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Literal, TextIO

Role = Literal["api", "worker", "supervisor", "flower"]

#: Id of the request that the current task serves. It is added to every line that the task logs.
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)

_JOB_ID = re.compile(r"\bjob_[A-Za-z0-9]{24}\b")
_MAX_MESSAGE = 4000
_MAX_FRAMES = 20
_NOISY = ("httpx", "httpcore", "urllib3", "kombu", "celery.redirected", "filelock")

logger = logging.getLogger(__name__)


def configure_logging(
    role: Role, name: str, *, level: str, form: str = "auto", stream: TextIO | None = None
) -> None:
    """Send the output of all loggers, and Python's warnings, to `stream` (default: stderr). For entry points.

    `form` is json, text or auto. auto means text on a terminal and JSON otherwise.
    """
    target = stream or sys.stderr
    handler = logging.StreamHandler(target)
    is_text = form == "text" or (form == "auto" and target.isatty())
    handler.setFormatter(TextFormatter(name) if is_text else JsonFormatter(role, name))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    for noisy in _NOISY:
        logging.getLogger(noisy).setLevel(logging.WARNING)


def log_uncaught() -> None:
    """Log uncaught exceptions of this process and its threads."""

    def on_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        logger.critical("uncaught exception", exc_info=(kind, error, trace))

    def on_thread_exception(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            on_exception(args.exc_type, args.exc_value, args.exc_traceback)

    sys.excepthook = on_exception
    threading.excepthook = on_thread_exception


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object. `extra={"fields": {…}}` in a logging call adds members."""

    def __init__(self, role: Role, name: str) -> None:
        super().__init__()
        self._process = {"role": role, "process": name}

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record),
            **self._process,
            **_context(record),
        }
        if record.exc_info and record.exc_info[1] is not None:
            fields["error"] = describe(record.exc_info[1])
        return json.dumps(fields, default=str)


class TextFormatter(logging.Formatter):
    """Formats a record for people. Of the members that a call adds, only the ids are shown."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def format(self, record: logging.LogRecord) -> str:
        head = f"{rfc3339(record.created)} {record.levelname:<7} {self._name} {record.name}:"
        message = _message(record)
        ids = " ".join(
            f"{name}={value}"
            for name, value in _context(record).items()
            if name in ("job_id", "request_id") and str(value) not in message
        )
        line = f"{head} {message} {ids}".rstrip()
        if record.exc_info and record.exc_info[1] is not None:
            error = describe(record.exc_info[1])
            line += "".join(f"\n  {place}" for place in error["trace"]) + f"\n  {error['type']}"
        return line


def rfc3339(moment: float) -> str:
    """Format seconds since the epoch as UTC with milliseconds (RFC 3339)."""
    milliseconds = int(moment * 1000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{stamp}.{milliseconds % 1000:03d}Z"


def describe(error: BaseException) -> dict[str, Any]:
    """Return an exception's type, the types of its causes, and its traceback."""
    frames = traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
    described: dict[str, Any] = {
        "type": _name(error),
        "trace": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }
    if causes := _causes(error):
        described["causes"] = causes
    return described


def _causes(error: BaseException) -> list[str]:
    causes: list[str] = []
    cause = error.__cause__ or error.__context__
    while cause is not None and len(causes) < _MAX_FRAMES:
        causes.append(_name(cause))
        cause = cause.__cause__ or cause.__context__
    return causes


def _name(error: BaseException) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if record.name == "asyncio":
        # The other lines are reprs of tasks and of their exceptions.
        message = message.partition("\n")[0]
    # A name in Redis may have bytes that are not text. They are shown as \udc…, and no output fails on them.
    return message[:_MAX_MESSAGE].encode(errors="backslashreplace").decode()


def _context(record: logging.LogRecord) -> dict[str, Any]:
    """Return the members that the logging call added, and the ids of the job and the request."""
    fields = dict(getattr(record, "fields", {}))
    if "job_id" not in fields and (found := _JOB_ID.search(_haystack(record))):
        fields["job_id"] = found[0]
    if "request_id" not in fields and (request_id := REQUEST_ID.get()) is not None:
        fields["request_id"] = request_id
    return fields


def _haystack(record: logging.LogRecord) -> str:
    # Celery passes a task's arguments without logging them. The argument of a wake-up is its job.
    shown = record.getMessage()
    return f"{shown} {record.args.get('args', '')}" if isinstance(record.args, Mapping) else shown

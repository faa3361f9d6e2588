"""Lines of logs hold what one needs to find things, and nothing that was said."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared.runtime.logs import REQUEST_ID, configure_logging, log_uncaught, rfc3339

SECRET = "zebra-crossing-47"
JOB = "job_" + "a1B2c3D4e5F6" * 2
logger = logging.getLogger("baton.test")

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, hooks = root.handlers[:], root.level, (sys.excepthook, threading.excepthook)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    sys.excepthook, threading.excepthook = hooks


@pytest.fixture
def lines() -> Lines:
    """JSON lines written since the test began."""
    out = io.StringIO()
    configure_logging("worker", "w1", level="info", form="json", stream=out)
    return lambda: [json.loads(line) for line in out.getvalue().splitlines()]


def fail() -> None:
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        raise ValueError(f"cannot read {SECRET}") from error


def test_a_line_is_one_object(lines: Lines) -> None:
    logger.warning("two\nlines of %s", "text")
    (line,) = lines()
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "baton.test",
        "message": "two\nlines of text",
        "role": "worker",
        "process": "w1",
    }


def test_times_are_utc_to_the_millisecond() -> None:
    assert rfc3339(1_767_323_045.6789) == "2026-01-02T03:04:05.678Z"
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"


def test_a_job_that_a_line_names_is_a_member(lines: Lines) -> None:
    logger.info("%s was taken away", JOB)
    logger.info("Task %(name)s received", {"name": "baton.wake_up", "args": f"['{JOB}']"})
    logger.info("nothing of a job")
    logger.info("GET", extra={"fields": {"job_id": JOB, "status": 200}})
    assert [line.get("job_id") for line in lines()] == [JOB, JOB, None, JOB]
    assert lines()[3]["status"] == 200


async def test_lines_of_a_request_carry_its_id(lines: Lines) -> None:
    async def serve(request_id: str) -> None:
        REQUEST_ID.set(request_id)
        await asyncio.sleep(0)
        logger.info("in a request")

    await asyncio.gather(serve("req_1"), serve("req_2"))
    logger.info("outside")
    assert [line.get("request_id") for line in lines()] == ["req_1", "req_2", None]


def test_an_exceptions_type_and_place_are_logged_but_not_its_text(lines: Lines) -> None:
    try:
        fail()
    except ValueError:
        logger.exception("it failed")
    error = lines()[0]["error"]
    assert (error["type"], error["causes"]) == ("ValueError", ["KeyError"])
    assert error["trace"][-1].startswith(__file__) and error["trace"][-1].endswith(" fail")
    assert SECRET not in json.dumps(lines())


async def test_what_asyncio_says_of_a_lost_task_quotes_nothing(lines: Lines) -> None:
    async def lost() -> None:
        fail()

    task = asyncio.create_task(lost())
    await asyncio.wait([task])
    asyncio.get_running_loop().call_exception_handler(
        {"message": "Task exception was never retrieved", "exception": task.exception(), "future": task}
    )
    (line,) = lines()
    assert line["message"] == "Task exception was never retrieved"
    assert line["error"]["type"] == "ValueError" and SECRET not in json.dumps(line)


def test_the_end_of_a_thread_is_a_line(lines: Lines) -> None:
    log_uncaught()
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    assert (lines()[0]["level"], lines()[0]["error"]["type"]) == ("critical", "ValueError")
    assert SECRET not in json.dumps(lines())


def test_text_is_for_terminals_and_for_those_who_ask() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for out, form, is_json in (
        (Terminal(), "auto", False),
        (io.StringIO(), "auto", True),
        (io.StringIO(), "text", False),
        (Terminal(), "json", True),
    ):
        configure_logging("api", "a1", level="info", form=form, stream=out)
        logger.info("hello")
        assert out.getvalue().startswith("{") is is_json


def test_text_shows_ids_once_and_no_text_of_an_exception() -> None:
    out = io.StringIO()
    configure_logging("api", "a1", level="info", form="text", stream=out)
    try:
        fail()
    except ValueError:
        logger.exception("%s failed", JOB, extra={"fields": {"request_id": "req_1", "status": 500}})
    first, *trace = out.getvalue().splitlines()
    assert first.split(" ", 1)[1] == f"ERROR   a1 baton.test: {JOB} failed request_id=req_1"
    assert trace[-1] == "  ValueError" and SECRET not in out.getvalue()


@pytest.mark.parametrize("form", ["json", "text"])
def test_bytes_that_are_no_text_are_written_in_a_readable_form(form: str) -> None:
    out = io.BytesIO()
    stream = io.TextIOWrapper(out, encoding="utf-8", write_through=True)
    configure_logging("worker", "w1", level="info", form=form, stream=stream)
    logger.warning("skipping %s", b"\xff.1".decode(errors="surrogateescape"))
    assert "udcff.1" in out.getvalue().decode()

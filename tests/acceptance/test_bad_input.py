"""Bad input, a row a case: its error has OpenAI's form, and a neighbour's stream does not notice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.bad_input import fields, framing, grammars, ids, jobs, sampling, streams
from tests.acceptance.bad_input.case import Case
from tests.acceptance.bad_input.site import CHAT, JOBS, NEIGHBOUR, SETTINGS, Site, chat
from tests.acceptance.sse import Answer, blocks
from tests.acceptance.system import System

PARTS = [framing, fields, sampling, grammars, ids, jobs, streams]
CASES = [case for part in PARTS for case in part.CASES]
NUM_TOKENS = 500
#: The part of the neighbour's answer behind which no other case begins.
NEAR_END = 0.9


@pytest.fixture(scope="module")
def site(tiny_model: Path) -> Iterator[Site]:
    """A system with keys, one replica and one worker, which all the bad input goes to."""
    system = System(tiny_model, **SETTINGS)
    try:
        system.start()
        yield Site(system)
    finally:
        system.remove()


class Neighbour:
    """A greedy stream that has begun and is read as it comes."""

    def __init__(self, site: Site) -> None:
        headers = {"authorization": f"Bearer {NEIGHBOUR}"}
        self._http = httpx.Client(base_url=site.system.urls[0], headers=headers, timeout=30)
        body = chat(stream=True, max_tokens=NUM_TOKENS, stream_options={"include_usage": True})
        self._response = self._http.send(self._http.build_request("POST", CHAT, json=body), stream=True)
        assert self._response.status_code == 200
        self.answer = Answer({}, {})
        self._has_read = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._reading = self._pool.submit(self._read_all)
        self._reading.add_done_callback(lambda _: self._has_read.set())

    @property
    def is_over(self) -> bool:
        return self._reading.done()

    def wait_for_more(self) -> None:
        """Until another event has come, or the end."""
        self._has_read.clear()
        if not self.is_over:
            assert self._has_read.wait(30)

    def whole(self) -> Answer:
        """Its answer, at the end."""
        self._reading.result()
        return self.answer

    def job(self) -> dict[str, Any]:
        job = self._http.get(f"{JOBS}/{self._response.headers['x-job-id']}").json()
        assert isinstance(job, dict)
        return job

    def leave(self) -> None:
        """After the end."""
        self._pool.shutdown()
        self._response.close()
        self._http.close()

    def _read_all(self) -> None:
        for block in blocks(self._response):
            self.answer.add_block(block)
            self._has_read.set()


class Company:
    """Neighbours, one after the other, so that one of them is there in every case."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._present: Neighbour | None = Neighbour(site)
        #: The answer when nobody else is there.
        self._undisturbed = self._present.whole()
        self._text = self._undisturbed.texts[0]
        assert self._undisturbed.is_done and self._undisturbed.usage is not None
        assert self._undisturbed.usage["completion_tokens"] == NUM_TOKENS
        self.leave()

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Somebody is in the middle of an answer, and notices nothing."""
        neighbour, self._present = self._present or Neighbour(self._site), None
        try:
            yield
            neighbour.wait_for_more()
            if neighbour.is_over or len(neighbour.answer.texts[0]) > NEAR_END * len(self._text):
                self._check_whole(neighbour)
            else:
                self._check(neighbour)
                self._present = neighbour
        finally:
            if self._present is None:
                neighbour.leave()

    def leave(self) -> None:
        neighbour, self._present = self._present, None
        if neighbour is not None:
            try:
                self._check_whole(neighbour)
            finally:
                neighbour.leave()

    def _check(self, neighbour: Neighbour) -> None:
        assert self._text.startswith(neighbour.answer.texts[0])
        job = neighbour.job()
        assert job["status"] in ("in_progress", "incomplete") and job["attempts"] == 1, job

    def _check_whole(self, neighbour: Neighbour) -> None:
        assert neighbour.whole() == self._undisturbed
        job = neighbour.job()
        assert (job["status"], job["attempts"]) == ("incomplete", 1), job


@pytest.fixture(scope="module")
def company(site: Site) -> Iterator[Company]:
    company = Company(site)
    yield company
    company.leave()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input(site: Site, company: Company, case: Case) -> None:
    with company.beside():
        for refused in case.act(site):
            refused.check()
    assert site.is_unharmed()

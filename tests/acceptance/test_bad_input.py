"""Bad input, a row a case: its error has OpenAI's form, and a neighbour's stream does not notice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.acceptance.bad_input import fields, framing, grammars, ids, jobs, sampling, streams
from tests.acceptance.bad_input.case import Case
from tests.acceptance.bad_input.site import CHAT, JOBS, NEIGHBOUR, SETTINGS, Site, chat
from tests.acceptance.sse import Answer, blocks
from tests.acceptance.system import System

PARTS = [framing, fields, sampling, grammars, ids, jobs, streams]
CASES = [case for part in PARTS for case in part.CASES]
NUM_TOKENS = 100


@pytest.fixture(scope="module")
def site(tiny_model: Path) -> Iterator[Site]:
    """A system with keys, one replica and one worker, which all the bad input goes to."""
    system = System(tiny_model, **SETTINGS)
    try:
        system.start()
        yield Site(system)
    finally:
        system.remove()


@pytest.fixture(scope="module")
def undisturbed(site: Site) -> Answer:
    """The neighbour's answer when nobody else is there."""
    with Neighbour(site) as neighbour:
        return neighbour.read_rest()


class Neighbour:
    """A greedy stream that has begun. Reads on when it is told to."""

    def __init__(self, site: Site) -> None:
        headers = {"authorization": f"Bearer {NEIGHBOUR}"}
        self._http = httpx.Client(base_url=site.system.urls[0], headers=headers, timeout=30)

    def __enter__(self) -> Neighbour:
        body = chat(stream=True, max_tokens=NUM_TOKENS, stream_options={"include_usage": True})
        self._response = self._http.send(self._http.build_request("POST", CHAT, json=body), stream=True)
        assert self._response.status_code == 200
        self._blocks = blocks(self._response)
        self._read = [next(self._blocks)]
        return self

    def read_rest(self) -> Answer:
        return Answer.of([*self._read, *self._blocks])

    def attempts(self) -> int:
        job = self._http.get(f"{JOBS}/{self._response.headers['x-job-id']}").json()
        assert job["status"] == "incomplete", job
        attempts = job["attempts"]
        assert isinstance(attempts, int)
        return attempts

    def __exit__(self, *_: object) -> None:
        self._response.close()
        self._http.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input(site: Site, undisturbed: Answer, case: Case) -> None:
    with Neighbour(site) as neighbour:
        for refused in case.act(site):
            refused.check()
        answer = neighbour.read_rest()
        assert answer == undisturbed and answer.is_done
        assert answer.usage is not None and answer.usage["completion_tokens"] == NUM_TOKENS
        assert neighbour.attempts() == 1
    assert site.is_unharmed()

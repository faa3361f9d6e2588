"""The HTTP fuzzer: a quarter of its requests comes from the OpenAPI document, the others are garbage of our own."""

from __future__ import annotations

import itertools
import json
import random
import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx

from tests.fuzz.http_reply import ConnectionEnded, HttpReply, exchange
from tests.fuzz.openapi import send_generated
from tests.fuzz.raw_http import Known, RawRequest, make
from tests.fuzz.tally import Budget, Tally
from tests.fuzz.target import CHAT, JOBS, Health, Target, chat

#: Settings of a system under attack: bodies that do not end are given up soon, and answers are short.
SETTINGS = {
    "RECEIPT_S": "1",
    "MAX_MODEL_LEN": "128",
    "READER_GRACE_S": "1",
    "FIRST_OUTPUT_WAIT_S": "5",
    "ADMIN_KEYS": "",
}
_THREADS = 8
_WITHIN_S = 30.0


def run(target: Target, seed: int, budget: Budget, tally: Tally, *, batch: int = 400) -> None:
    """Attack a running system. `batch`: requests between two checks of it."""
    health = Health(target)
    known = find_known(target)
    for index in itertools.count():
        if not budget.is_left(tally.num_tried):
            break
        numbers = range(index * batch, (index + 1) * batch)
        if index % 4 == 1:
            send_generated(target, random.Random(f"{seed}/{index}").randrange(2**32), len(numbers), tally)
        else:
            _send_raw(target, seed, numbers, known, tally)
        _check(target, health, tally, f"requests {numbers[0]} to {numbers[-1]}")
    health.close()


def find_known(target: Target) -> Known:
    """Make a job and a chat, so that there are ids to damage."""
    with httpx.Client(base_url=target.url, timeout=30, trust_env=False) as http:
        with http.stream("POST", CHAT, json=chat(target.model, stream=True)) as reply:
            text = reply.read().decode()
        job = http.post(JOBS, json={"endpoint": CHAT, "body": chat(target.model)})
    event_id = re.findall(r"^id: (\S+)$", text, re.MULTILINE)[-1]
    first = re.search(r"^data: (\{.*)$", text, re.MULTILINE)
    assert first is not None
    return Known(target.model, job.json()["id"], json.loads(first[1])["id"], event_id)


def judge(request: RawRequest, reply: HttpReply | None, tally: Tally) -> None:
    """Count a response, and note what is wrong with it. None: the connection ended without one."""
    if reply is None:
        # A request that was not complete may be dropped; so may what is no HTTP at all.
        may_be_silent = request.is_cut or request.group in (
            "broken framing",
            "header floods",
            "methods and paths",
        )
        tally.add(request.group, "no response" if may_be_silent else "dropped")
        if not may_be_silent:
            tally.fault(request.group, "the connection ended without a response", repr(request.raw[:160]))
        return
    tally.add(request.group, f"{reply.status}")
    if wrong := reply.wrong(has_body=request.has_body):
        tally.fault(request.group, wrong, repr(request.raw[:2000]))


def send(target: Target, request: RawRequest, tally: Tally) -> None:
    """Send one request and judge its response."""
    address = ("127.0.0.1", urlsplit(target.url).port or 0)
    try:
        reply = exchange(
            address, request.raw, is_cut=request.is_cut, has_body=request.has_body, within_s=_WITHIN_S
        )
    except ConnectionEnded:
        reply = None
    except TimeoutError:
        tally.add(request.group, "no response in time")
        return tally.fault(request.group, f"no response within {_WITHIN_S:g} s", repr(request.raw[:2000]))
    judge(request, reply, tally)


def _send_raw(target: Target, seed: int, numbers: range, known: Known, tally: Tally) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda number: send(target, make(seed, number, known), tally), numbers))


def _check(target: Target, health: Health, tally: Tally, attack: str) -> None:
    tally.note_ended(target.ended(), attack)
    if wrong := health.fault():
        tally.fault("after a batch", wrong, attack)

"""Bodies changed at random: whatever comes, it is answered, or refused in the one form of all errors."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from api.dialects.jobs.schema import JobRequest
from api.dialects.openai_chat.schema import ChatRequest
from api.dialects.openai_chat.unsupported import UNSUPPORTED
from shared.store.job_store import JobStore
from tests.fake_worker import FakeWorker, hello
from tests.integration.api.requests import CHAT, chat, job

JOBS = "/v1/jobs"
#: Every field that is known, so that a name drawn at random often is one.
NAMES = sorted({*ChatRequest.model_fields, *JobRequest.model_fields, *UNSUPPORTED, "role", "content", "text"})
NASTY = [
    "",
    "\0",
    "\ud800",
    "‮",
    "../../etc/passwd",
    "{{7*7}}",
    "<|im_end|>",
    "a\r\n\r\nb",
    "x" * 2000,
    "1e999",
]

names = st.one_of(st.sampled_from(NAMES), st.sampled_from(NASTY), st.text(max_size=8))
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(NASTY),
    st.sampled_from(["user", "assistant", "text", "test", "high", "continue", CHAT]),
    st.text(max_size=20),
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)),
    max_leaves=12,
)
VALID: list[dict[str, Any]] = [
    chat(),
    chat(stream=True, stream_options={"include_usage": True}, n=2, stop=["a", "b"], logprobs=True),
    chat(messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}], logit_bias={"5": 1}),
    chat(temperature=0.5, top_p=0.9, top_k=5, seed=1, max_tokens=5, metadata={"a": "b"}),
]


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, bytes]:
    """A path and a body: a valid one with a few changes to its tree, and sometimes to its bytes."""
    body = copy.deepcopy(draw(st.sampled_from(VALID)))
    path = draw(st.sampled_from([CHAT, JOBS]))
    if path == JOBS:
        body = job(body, priority="high", expires_after=60)
    for _ in range(draw(st.integers(0, 3))):
        body = change(draw, body)
    raw = json.dumps(body).encode()
    if draw(st.integers(0, 4)) == 0:
        start = draw(st.integers(0, len(raw)))
        raw = raw[:start] + draw(st.binary(max_size=6)) + raw[start + draw(st.integers(0, 6)) :]
    return path, raw


def change(draw: st.DrawFn, node: Any) -> Any:
    """The tree with one of its nodes replaced, removed or added."""
    if isinstance(node, dict) and node and draw(st.integers(0, 5)):
        name = draw(st.sampled_from(sorted(node)))
        match draw(st.sampled_from(["deeper", "deeper", "deeper", "remove", "add"])):
            case "deeper":
                node[name] = change(draw, node[name])
            case "remove":
                del node[name]
            case _:
                node[draw(names)] = draw(values)
        return node
    if isinstance(node, list) and node and draw(st.booleans()):
        index = draw(st.integers(0, len(node) - 1))
        return [*node[:index], change(draw, node[index]), *node[index + draw(st.integers(0, 1)) :]]
    return draw(values)


@pytest.fixture
async def worker(store: JobStore) -> AsyncIterator[FakeWorker]:
    """Answers what is accepted."""
    async with FakeWorker(store, hello) as fake:
        yield fake


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("worker")
@settings(
    max_examples=1000,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(request_=bodies())
async def test_any_body_is_answered_or_refused_in_form(
    http: httpx.AsyncClient, request_: tuple[str, bytes]
) -> None:
    path, raw = request_
    response = await http.post(path, content=raw, headers={"content-type": "application/json"})
    event(f"{path} {response.status_code}")
    assert response.status_code in (200, 202, 400, 404), response.text
    if response.status_code < 300:
        return
    assert list(response.json()) == ["error"]
    error = response.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["type"] == "invalid_request_error" and error["message"] and len(response.content) < 4096

"""What a sample records: chunk times, usage and errors."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

import pytest

from cli.bench.connection import Connections
from cli.bench.sample import Sample, take_sample
from tests.unit.cli.bench.scripted_server import (
    CHUNKED,
    DONE,
    LAST_CHUNK,
    ScriptedServer,
    Step,
    chunk,
    event,
    serving,
    text,
    usage,
    whole,
)

GAP_S = 0.05


async def sample_of(*steps: Step, timeout_s: float = 10) -> Sample:
    async with serving(lambda _: steps) as server:
        return await ask(server, timeout_s)


async def ask(server: ScriptedServer, timeout_s: float = 10, due: float | None = None) -> Sample:
    connections = Connections(f"{server.url}/v1", {})
    try:
        intended = time.perf_counter() if due is None else due
        return await take_sample(connections, b'{"model":"m"}', intended, timeout_s)
    finally:
        connections.close()


async def test_chunks_are_timed_one_by_one() -> None:
    role = chunk(event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}))
    steps = (CHUNKED, role, GAP_S, text("a"), text("b"), 3 * GAP_S, text("c"), usage(5), DONE)
    sample = await sample_of(*steps)
    assert (sample.error, len(sample.texts), sample.num_tokens, sample.prompt_tokens) == (None, 3, 5, 9)
    first, second = sample.gaps_s
    assert 0 <= first < second
    assert sample.first_s is not None and sample.token_s is not None
    assert sample.intended <= sample.sent < sample.texts[0] < sample.texts[2] <= sample.ended
    assert sample.latency_s >= sample.first_s + second


async def test_without_usage_chunks_are_counted() -> None:
    sample = await sample_of(CHUNKED, text("a"), text("b"), DONE)
    assert (sample.completion_tokens, sample.num_tokens) == (None, 2)


async def test_events_are_found_however_the_bytes_are_cut() -> None:
    body = event({"choices": [{"index": 0, "delta": {"content": "é"}}]}) * 3 + b"data: [DONE]\n\n"
    pieces = [chunk(body[at : at + 7]) for at in range(0, len(body), 7)]
    sample = await sample_of(CHUNKED, *pieces, LAST_CHUNK)
    assert (sample.error, sample.num_tokens) == (None, 3)


async def test_a_finish_reason_stands_in_for_a_done_that_the_server_does_not_send() -> None:
    end = chunk(event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}))
    assert (await sample_of(CHUNKED, text("a"), end, LAST_CHUNK)).error is None
    # It reports nothing about an answer whose connection broke.
    assert (await sample_of(CHUNKED, text("a"), end)).error == "cut"


async def test_an_answer_without_length_ends_with_its_connection() -> None:
    body = event({"choices": [{"index": 0, "delta": {"content": "a"}}]}) + b"data: [DONE]\n\n"
    sample = await sample_of(b"HTTP/1.1 200 OK\r\n\r\n", body)
    assert (sample.error, sample.num_tokens) == (None, 1)


async def test_lateness_counts_from_when_it_was_due() -> None:
    async with serving(lambda _: (CHUNKED, text("a"), DONE)) as server:
        sample = await ask(server, due=time.perf_counter() - 100)
    assert sample.sent - sample.intended > 99
    assert sample.latency_s > 99 and sample.first_s is not None and sample.first_s > 99


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ((whole("503 No", b'{"error":{"code":"no_worker"}}'),), "status 503 no_worker"),
        ((whole("400 No", b'{"error":{"code":null,"type":"invalid"}}'),), "status 400 invalid"),
        ((whole("500 No", b"{}"),), "status 500"),
        ((CHUNKED, text("a"), chunk(event({"error": {"code": "worker_lost"}})), DONE), "stream worker_lost"),
        ((CHUNKED, text("a")), "cut"),
        ((CHUNKED, text("a"), LAST_CHUNK), "cut"),
        ((CHUNKED, text("a"), b"zz\r\n"), "not HTTP"),
        ((CHUNKED, chunk(b"data: {nothing\n\n"), DONE), "not a chunk"),
        ((b"SSH-2.0-x\r\n\r\n",), "not HTTP"),
        ((b"x" * (3 << 20),), "not HTTP"),
        ((), "cut"),
        ((CHUNKED, text("a"), 30.0), "timeout"),
    ],
)
async def test_each_kind_of_error_has_its_name(steps: Sequence[Step], error: str) -> None:
    assert (await sample_of(*steps, timeout_s=0.3 if error == "timeout" else 10)).error == error


async def test_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        connections = Connections(f"http://127.0.0.1:{probe.getsockname()[1]}/v1", {})
        sample = await take_sample(connections, b"{}", time.perf_counter(), 10)
    assert sample.error == "connection: ConnectionRefusedError"


async def test_connections_are_used_again_while_they_live() -> None:
    def script(number: int) -> Sequence[Step]:
        head = CHUNKED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") if number == 1 else CHUNKED
        return (head, text("a"), DONE)

    async with serving(script) as server:
        connections = Connections(f"{server.url}/v1", {"authorization": "Bearer key"})
        samples = [await take_sample(connections, b'{"n":1}', time.perf_counter(), 10) for _ in range(4)]
        connections.close()
    assert [sample.error for sample in samples] == [None] * 4
    assert (server.num_connections, server.bodies) == (2, [{"n": 1}] * 4)
    assert server.heads[0].startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    assert "\r\nauthorization: Bearer key\r\n" in server.heads[0]


async def test_a_connection_that_died_while_it_was_idle_is_replaced() -> None:
    async with serving(lambda number: (CHUNKED, text("a"), DONE) if number != 1 else ()) as server:
        connections = Connections(f"{server.url}/v1", {})
        samples = [await take_sample(connections, b"{}", time.perf_counter(), 10) for _ in range(2)]
        connections.close()
    assert [sample.error for sample in samples] == [None, None]
    assert server.num_connections == 2

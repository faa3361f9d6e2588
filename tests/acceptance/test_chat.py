"""Chats through the whole system: batched, resumed, cancelled, repeated."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.acceptance.sse import Answer, Block, blocks
from tests.acceptance.system import System
from tests.tiny_chat_model import reference_answer

pytestmark = pytest.mark.timeout(180)
PROMPT = "count from 1 to 30"
#: Events after which a job goes on.
PASSING = {"job.queued", "job.started", "job.output", "job.resumed", "job.requeued"}


def body(prompt: str = PROMPT, **fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": prompt}], "temperature": 0, **fields}


def whole(system: System, **fields: Any) -> str:
    answer = system.openai().chat.completions.create(**body(**fields))
    return answer.choices[0].message.content or ""


def read_stream(system: System, replica: int, url: str, method: str = "GET", **request: Any) -> list[Block]:
    with system.http(replica) as http, http.stream(method, url, **request) as response:
        assert response.status_code == 200, response.read()
        return list(blocks(response))


def test_the_official_client_streams_what_generate_answers(system: System, tiny_model: Path) -> None:
    chunks = list(system.openai().chat.completions.create(**body(max_tokens=300), stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == reference_answer(tiny_model, PROMPT, 300)
    assert chunks[-1].choices[0].finish_reason == "length"
    assert len({chunk.id for chunk in chunks}) == 1


def test_thirty_two_streams_share_the_batch_and_change_nothing(system: System, tiny_model: Path) -> None:
    prompts = [f"tell me what comes after {n}" for n in range(32)]

    async def ask(client: openai.AsyncOpenAI, prompt: str) -> str:
        stream = await client.chat.completions.create(**body(prompt, max_tokens=60), stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def ask_all() -> list[str]:
        async with openai.AsyncOpenAI(
            base_url=f"{system.urls[0]}/v1", api_key="none", max_retries=0
        ) as client:
            return await asyncio.gather(*(ask(client, prompt) for prompt in prompts))

    assert asyncio.run(ask_all()) == [reference_answer(tiny_model, prompt, 60) for prompt in prompts]

    def steps(most: str) -> float:
        labels = f'device="cpu",le="{most}",model="tiny",worker="worker-1"'
        return metric(system, f"baton_worker_batch_sequences_bucket{{{labels}}}")

    # What a worker tells travels with its beats.
    system.wait_until(lambda: steps("32.0") > steps("8.0"), 5)


def metric(system: System, name: str) -> float:
    with system.http() as http:
        text = http.get("/metrics").text
    return max(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_a_cut_stream_goes_on_at_another_replica(system: System, share: float) -> None:
    ask = body(
        max_tokens=120, n=2, stream=True, stream_options={"include_usage": True}, seed=3, temperature=1
    )
    found = read_stream(system, 0, "/v1/chat/completions", "POST", json=ask)
    complete = Answer.of(found)
    assert complete.is_done and complete.usage is not None
    # The id of the last event before `[DONE]` is not the end: that one still has to come.
    cut = round(share * (len(found) - 2))
    first, last_id = found[: cut + 1], found[cut].id
    assert last_id is not None
    chat_id = found[0].json["id"]
    rest = read_stream(
        system, 1, f"/v1/chat/completions/{chat_id}/events", headers={"Last-Event-ID": last_id}
    )
    both = Answer.of(first + rest)
    assert (both.texts, both.finish, both.usage) == (complete.texts, complete.finish, complete.usage)
    assert both.is_done
    assert {block.json["id"] for block in rest if block.data != "[DONE]"} <= {chat_id}


def test_a_live_stream_that_breaks_goes_on_at_another_replica(system: System, tiny_model: Path) -> None:
    ask = body(max_tokens=600, stream=True)
    first: list[Block] = []
    with system.http(0) as http, http.stream("POST", "/v1/chat/completions", json=ask) as response:
        for block in blocks(response):
            first.append(block)
            if len(first) == 5:
                break
    chat_id, last_id = first[0].json["id"], first[-1].id
    assert last_id is not None
    rest = read_stream(
        system, 1, f"/v1/chat/completions/{chat_id}/events", headers={"Last-Event-ID": last_id}
    )
    assert Answer.of(first + rest).texts == {0: reference_answer(tiny_model, PROMPT, 600)}


def test_a_late_reader_gets_everything(system: System) -> None:
    ask = body(max_tokens=50, stream=True)
    found = read_stream(system, 0, "/v1/chat/completions", "POST", json=ask)
    late = read_stream(system, 1, f"/v1/chat/completions/{found[0].json['id']}/events")
    assert Answer.of(late).texts == Answer.of(found).texts


def test_polling_gives_the_same(system: System) -> None:
    with system.http(0) as http, system.http(1) as other:
        job = http.post(
            "/v1/jobs", json={"endpoint": "/v1/chat/completions", "body": body(max_tokens=200)}
        ).json()
        events: list[dict[str, Any]] = []
        cursor, done, polls = "", False, 0
        while not done:
            polls += 1
            assert polls < 500
            page = other.get(
                f"/v1/jobs/{job['id']}/events",
                params={"wait": 1, "limit": 3, **({"after": cursor} if cursor else {})},
                headers={"Accept": "application/json"},
            ).json()
            events += page["events"]
            cursor, done = page["cursor"], page["done"]
        ended = http.get(f"/v1/jobs/{job['id']}").json()
    outputs = [event["data"] for event in events if event["event"] == "job.output"]
    text = "".join(c["delta"].get("content") or "" for chunk in outputs for c in chunk["choices"])
    assert ended["status"] == "incomplete"
    assert text == ended["result"]["choices"][0]["message"]["content"] == whole(system, max_tokens=200)
    assert [event["event"] for event in events][-1] == "job.incomplete"


def test_cancelling_a_running_job_frees_its_slot_at_once(system: System) -> None:
    with system.http() as http:
        job = submit(http, max_tokens=3500)
        wait_for(http, job["id"], lambda found: found["status"] == "in_progress")
        assert http.post(f"/v1/jobs/{job['id']}/cancel").json()["status"] == "cancelled"
        assert http.post(f"/v1/jobs/{job['id']}/cancel").json()["status"] == "cancelled"
        deadline = time.monotonic() + 10
        while metric(system, "baton_worker_jobs{"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert terminal_events(http, job["id"]) == ["job.cancelled"]


def test_a_cancelled_job_that_waited_never_reaches_the_engine(system: System) -> None:
    with system.http() as http:
        busy = [submit(http, max_tokens=2500) for _ in range(32)]
        waiting = submit(http, max_tokens=5)
        assert http.post(f"/v1/jobs/{waiting['id']}/cancel").json()["status"] == "cancelled"
        for job in busy:
            http.post(f"/v1/jobs/{job['id']}/cancel")
        assert http.get(f"/v1/jobs/{waiting['id']}").json()["attempts"] == 0
        assert terminal_events(http, waiting["id"]) == ["job.cancelled"]


def test_a_seed_gives_the_same_text_whatever_runs_beside_it(system: System) -> None:
    ask = {"temperature": 1.0, "top_p": 0.9, "seed": 11, "max_tokens": 80}
    alone = whole(system, **ask)
    with system.http() as http:
        neighbours = [submit(http, max_tokens=3000, seed=n, temperature=1.0) for n in range(31)]
        wait_for(http, neighbours[0]["id"], lambda found: found["status"] == "in_progress")
        crowded = whole(system, **ask)
        for job in neighbours:
            http.post(f"/v1/jobs/{job['id']}/cancel")
    assert crowded == alone


def test_a_prompt_longer_than_the_context_is_a_true_400(system: System) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        system.openai().chat.completions.create(**body("count " * 5000, max_tokens=5), stream=True)
    assert caught.value.code == "context_length_exceeded"


def test_bad_requests_disturb_nobody(system: System, tiny_model: Path) -> None:
    def bad() -> int:
        with system.http() as http:
            return http.post("/v1/chat/completions", json=body("count " * 5000)).status_code

    with ThreadPoolExecutor(9) as pool:
        good = pool.submit(whole, system, max_tokens=300)
        assert [f.result() for f in [pool.submit(bad) for _ in range(8)]] == [400] * 8
        assert good.result() == reference_answer(tiny_model, PROMPT, 300)


def test_a_chat_that_nobody_reads_is_given_up(system: System) -> None:
    with system.http() as http:
        busy = [submit(http, max_tokens=3900) for _ in range(32)]
        with pytest.raises(httpx.ReadTimeout):
            http.post("/v1/chat/completions", json=body(max_tokens=5, stream=True), timeout=1)
        left = http.get("/v1/jobs", params={"limit": 1}).json()["data"][0]
        assert left["status"] == "queued"
        ended = wait_for(http, left["id"], lambda found: found["status"] != "queued")
        for job in busy:
            http.post(f"/v1/jobs/{job['id']}/cancel")
        assert (ended["status"], ended["attempts"]) == ("cancelled", 0)
        assert terminal_events(http, left["id"]) == ["job.cancelled"]


def submit(http: httpx.Client, **fields: Any) -> dict[str, Any]:
    response = http.post("/v1/jobs", json={"endpoint": "/v1/chat/completions", "body": body(**fields)})
    assert response.status_code == 202, response.text
    job = response.json()
    assert isinstance(job, dict)
    return job


def wait_for(http: httpx.Client, job_id: str, condition: Any, within_s: float = 30) -> dict[str, Any]:
    deadline = time.monotonic() + within_s
    while True:
        found = http.get(f"/v1/jobs/{job_id}").json()
        assert isinstance(found, dict)
        if condition(found):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def terminal_events(http: httpx.Client, job_id: str) -> list[str]:
    ends: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = http.get(
            f"/v1/jobs/{job_id}/events", params=cursor, headers={"Accept": "application/json"}
        ).json()
        ends += [event["event"] for event in page["events"] if event["event"] not in PASSING]
        if page["done"]:
            return ends
        cursor = {"after": page["cursor"]}

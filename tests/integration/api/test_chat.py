"""A chat from the client's side: whole, streamed, by the official client."""

from __future__ import annotations

import asyncio

import httpx
import openai
import pytest

from api.dialects.openai_chat.ids import call_id
from api.dialects.openai_chat.logprobs import prompt_logprobs_json
from shared.domain.output import Args, Open, Reasoning
from shared.domain.request import ChatMessage, ChatPrompt, GenerationRequest, SamplingOptions
from shared.errors import ErrorInfo
from shared.store.job_store import JobStore
from tests.fake_worker import ANSWER, PROMPT_TOKENS, FakeWorker, Running, hello, says
from tests.integration.api.conftest import StartApi
from tests.integration.api.requests import CHAT, chat, job, read_blocks, stream
from tests.integration.api.server import MODEL, ApiServer
from tests.unit.api.streams import Text
from tests.unit.shared.domain.test_prompt_logprobs import PROMPT_LOGPROBS

TEXT = "".join(ANSWER)
USAGE = {
    "prompt_tokens": PROMPT_TOKENS,
    "completion_tokens": len(ANSWER),
    "total_tokens": PROMPT_TOKENS + len(ANSWER),
}
MESSAGES: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]


async def test_a_whole_chat(http: httpx.AsyncClient, store: JobStore) -> None:
    async with FakeWorker(store, hello):
        response = await http.post(CHAT, json=chat())
    body = response.json()
    stored = await store.get("job_" + body["id"].removeprefix("chatcmpl-"))
    assert stored is not None and stored.status == "completed" and stored.on_disconnect == "pause"
    assert body == {
        "id": body["id"],
        "object": "chat.completion",
        "created": int(stored.created_at),
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }
    assert response.headers["x-job-id"] == stored.id
    assert response.headers["x-request-id"].startswith("req_")


async def test_a_streamed_chat(http: httpx.AsyncClient, store: JobStore) -> None:
    async with FakeWorker(store, hello):
        found = await stream(http, n=2, stream_options={"include_usage": True})
    tokens = 2 * len(ANSWER)
    assert Text.of(found) == Text(
        texts={0: TEXT, 1: TEXT},
        roles={0: 1, 1: 1},
        finish={0: ["stop"], 1: ["stop"]},
        usage=[{**USAGE, "completion_tokens": tokens, "total_tokens": PROMPT_TOKENS + tokens}],
        num_done=1,
    )


async def test_the_request_that_the_worker_reads(http: httpx.AsyncClient, store: JobStore) -> None:
    async with FakeWorker(store) as worker:
        asking = asyncio.create_task(http.post(CHAT, json=chat(max_tokens=5, stop="x", metadata={"a": "b"})))
        running = await worker.claimed()
        assert running.job.request == GenerationRequest(
            (ChatPrompt((ChatMessage("user", "hi"),)),), sampling=SamplingOptions(max_tokens=5, stop=("x",))
        )
        assert running.job.metadata == {"a": "b"}
        await running.complete("length")
        assert (await asking).json()["choices"][0]["finish_reason"] == "length"


async def test_what_is_told_of_the_prompt_is_in_the_whole_answer_alone(
    http: httpx.AsyncClient, other_http: httpx.AsyncClient, store: JobStore
) -> None:
    async def script(running: Running) -> None:
        assert running.job.request.sampling.prompt_logprobs == 1
        await running.say("a", prompt_logprobs=PROMPT_LOGPROBS)
        await running.say("b")
        await running.complete()

    async with FakeWorker(store, script):
        found = (await http.post(CHAT, json=chat(prompt_logprobs=1))).json()
    assert found["prompt_logprobs"] == prompt_logprobs_json(PROMPT_LOGPROBS)
    assert found["choices"][0]["message"]["content"] == "ab"
    assert (await other_http.get(f"{CHAT}/{found['id']}")).json() == found
    path = f"/v1/jobs/job_{found['id'].removeprefix('chatcmpl-')}"
    assert (await other_http.get(path)).json()["result"] == found
    for url in (f"{CHAT}/{found['id']}/events", f"{path}/events"):
        told = await other_http.get(url)
        assert told.status_code == 200 and b"rank" not in told.content


async def test_tokens_come_one_by_one(http: httpx.AsyncClient, store: JobStore) -> None:
    async with FakeWorker(store) as worker:
        beginning = asyncio.create_task(_begin(worker, "a"))
        async with http.stream("POST", CHAT, json=chat(stream=True)) as response:
            running, found = await beginning, read_blocks(response)
            for text in "abcd":
                # Each is read before the next one is made.
                assert (await anext(found)).json["choices"][0]["delta"]["content"] == text
                await running.say(chr(ord(text) + 1))
            await running.complete()
            assert [block async for block in found][-1].data == "[DONE]"


async def test_the_official_client_bears_ids_and_pings(start_api: StartApi, store: JobStore) -> None:
    api = start_api(ping_s=0.05)
    client = openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key="x", max_retries=0)
    async with FakeWorker(store, says(ANSWER, gap_s=0.11)), client:
        chunks = [
            chunk
            async for chunk in await client.chat.completions.create(
                model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
            )
        ]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == TEXT
    assert [chunk.choices[0].delta.role for chunk in chunks[:-1]].count("assistant") == 1
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens == USAGE["total_tokens"]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1


async def test_the_official_client_without_asyncio(api: ApiServer, store: JobStore) -> None:
    def ask() -> tuple[str, str | None]:
        with openai.OpenAI(base_url=f"{api.url}/v1", api_key="x", max_retries=0) as client:
            streamed = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
            whole = client.chat.completions.create(model=MODEL, messages=MESSAGES)
            return text, whole.choices[0].message.content

    async with FakeWorker(store, hello):
        assert await asyncio.to_thread(ask) == (TEXT, TEXT)


async def calls(running: Running) -> None:
    """Thinks, says something and calls two tools."""
    await running.say("", ops=[Reasoning("hm")])
    await running.say("!", ops=[Open("f")])
    await running.say("{}", ops=[Open("g", "call_g"), Args("[")])
    await running.say("]")
    await running.complete("tool_calls")


async def test_parts_have_fields_of_their_own(
    http: httpx.AsyncClient, other_http: httpx.AsyncClient, store: JobStore
) -> None:
    async with FakeWorker(store, calls):
        found = await stream(http)
        whole = (await http.post(CHAT, json=chat())).json()
    text, stored = Text.of(found), (await other_http.get(f"{CHAT}/{found[0].json['id']}")).json()
    job_id = found[0].json["id"].replace("chatcmpl-", "job_")
    first_call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    second_call = {"id": "call_g", "type": "function", "function": {"name": "g", "arguments": "[]"}}
    message = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "reasoning_content": "hm!",
        "tool_calls": [{"id": call_id(job_id, 0, 0), **first_call}, second_call],
    }
    assert stored["choices"][0] == {
        "index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"
    }  # fmt: skip
    assert (text.texts, text.reasoning, text.finish) == ({0: ""}, {0: "hm!"}, {0: ["tool_calls"]})
    assert list(text.calls.values()) == message["tool_calls"]
    assert whole["choices"][0]["message"]["tool_calls"][1] == second_call


async def test_the_official_clients_helper_reads_parts_and_choices(api: ApiServer, store: JobStore) -> None:
    async def second_first(running: Running) -> None:
        await running.say("b", choice=1)
        await running.say("", ops=[Open("f"), Args("{")])
        await running.say("}")
        await running.complete()

    client = openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key="x", max_retries=0)
    async with (
        FakeWorker(store, second_first),
        client,
        client.chat.completions.stream(model=MODEL, messages=MESSAGES, n=2) as events,
    ):
        completion = await events.get_final_completion()
    called = [
        (call.function.name, call.function.arguments)
        for call in completion.choices[0].message.tool_calls or []
    ]
    assert called == [("f", "{}")]
    assert completion.choices[1].message.content == "b"


async def test_usage_may_come_with_every_chunk(http: httpx.AsyncClient, store: JobStore) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    async with FakeWorker(store, says(["a", "b", "c"], gap_s=0.05)):
        found = await stream(http, stream_options=options)
    told = [block.json["usage"]["completion_tokens"] for block in found if block.data != "[DONE]"]
    assert told[0] == 1 and told == sorted(told) and told[-1] == 3


async def test_unknown_fields_are_ignored_and_named(http: httpx.AsyncClient, store: JobStore) -> None:
    body = chat(foo=1, num_ctx=8, messages=[{"role": "user", "content": "hi", "id": 1}])
    async with FakeWorker(store, hello):
        response = await http.post(CHAT, json=body)
    assert response.status_code == 200
    assert response.headers["x-ignored-parameters"] == "messages[].id, foo, num_ctx"
    submitted = await http.post("/v1/jobs", json=job(body))
    assert submitted.headers["x-ignored-parameters"] == "body.messages[].id, body.foo, body.num_ctx"
    lines = (await http.get("/metrics")).text.splitlines()
    assert 'baton_ignored_parameters_total{name="other"} 4.0' in lines
    assert 'baton_ignored_parameters_total{name="num_ctx"} 2.0' in lines


async def test_unknown_fields_may_be_refused(start_api: StartApi) -> None:
    async with httpx.AsyncClient(base_url=start_api(strict_parameters=True).url) as http:
        response = await http.post(CHAT, json=chat(foo=1))
    error = response.json()["error"]
    assert (response.status_code, error["param"], error["code"]) == (400, "foo", "unknown_parameter")


async def test_32_streams_at_once(http: httpx.AsyncClient, api: ApiServer, store: JobStore) -> None:
    async def echo(running: Running) -> None:
        (prompt,) = running.job.request.prompts
        assert isinstance(prompt, ChatPrompt)
        for text in prompt.messages[0].content:
            await running.say(text)
            await asyncio.sleep(0)
        await running.complete()

    asked = [f"prompt {number} " + "x" * number for number in range(32)]
    async with FakeWorker(store, echo):
        found = await asyncio.gather(
            *(stream(http, messages=[{"role": "user", "content": content}]) for content in asked)
        )
    assert [Text.of(blocks).texts[0] for blocks in found] == asked
    assert api.services.relay.num_subscriptions == 0


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_failure_before_the_first_output_has_its_status(
    http: httpx.AsyncClient, store: JobStore, *, streamed: bool
) -> None:
    error = ErrorInfo("too long", "invalid_request_error", "messages", "context_length_exceeded", 400)
    async with FakeWorker(store, lambda running: _fail(running, error)):
        response = await http.post(CHAT, json=chat(stream=streamed))
    assert response.status_code == 400
    assert response.json() == {"error": error.to_json()}
    assert "x-job-id" in response.headers


async def test_a_failure_after_it_is_an_event(api: ApiServer, store: JobStore) -> None:
    async def script(running: Running) -> None:
        await running.say("Hel")
        await running.fail(ErrorInfo("worker lost", code="worker_lost"))

    client = openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key="x", max_retries=0)
    texts = []
    async with FakeWorker(store, script), client:
        with pytest.raises(openai.APIError, match="worker lost"):
            async for chunk in await client.chat.completions.create(
                model=MODEL, messages=MESSAGES, stream=True
            ):
                texts.append(chunk.choices[0].delta.content)
    assert texts == ["Hel"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_without_a_worker_a_chat_is_refused_and_cancelled(
    start_api: StartApi, store: JobStore, *, streamed: bool
) -> None:
    api = start_api(first_output_wait_s=0.3)
    async with httpx.AsyncClient(base_url=api.url) as http:
        response = await http.post(CHAT, json=chat(stream=streamed))
    assert (response.status_code, response.json()["error"]["code"]) == (503, "no_worker")
    assert int(response.headers["retry-after"]) > 0
    given_up = await store.get(response.headers["x-job-id"])
    assert given_up is not None and given_up.status == "cancelled"


async def test_a_busy_worker_is_waited_for_with_pings(start_api: StartApi, store: JobStore) -> None:
    api = start_api(first_output_wait_s=0.1, ping_s=0.02)
    async with (
        FakeWorker(store) as worker,
        httpx.AsyncClient(base_url=api.url) as http,
        http.stream("POST", CHAT, json=chat(stream=True)) as response,
    ):
        running = await worker.claimed()
        chunks = response.aiter_bytes()
        assert (await anext(chunks)).startswith(b": ping\n")
        await running.say("a")
        await running.complete()
        rest = b"".join([chunk async for chunk in chunks])
    assert response.status_code == 200 and rest.endswith(b"data: [DONE]\n\n")


async def test_a_chat_that_is_cancelled(http: httpx.AsyncClient, store: JobStore) -> None:
    async with FakeWorker(store) as worker:
        beginning = asyncio.create_task(_begin(worker, "a"))
        async with http.stream("POST", CHAT, json=chat(stream=True)) as response:
            running, found = await beginning, read_blocks(response)
            assert (await anext(found)).json["choices"][0]["delta"]["content"] == "a"
            await store.cancel(running.job.id, "client")
            rest = [block async for block in found]
    assert [block.json["error"]["code"] for block in rest] == ["job_cancelled"]


async def _begin(worker: FakeWorker, text: str) -> Running:
    running = await worker.claimed()
    await running.say(text)
    return running


async def _fail(running: Running, error: ErrorInfo) -> None:
    await running.fail(error)


@pytest.mark.parametrize("end", ["cancelled", "failed"])
async def test_the_official_client_does_not_repeat_a_chat_whose_job_has_ended(
    api: ApiServer, http: httpx.AsyncClient, store: JobStore, end: str
) -> None:
    async with (
        FakeWorker(store) as worker,
        openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key="none", max_retries=2) as client,
    ):
        asking = asyncio.create_task(client.chat.completions.create(model=MODEL, messages=MESSAGES))
        running = await worker.claimed()
        if end == "failed":
            await running.fail(ErrorInfo("worker lost", code="worker_lost"))
        else:
            await http.post(f"/v1/jobs/{running.job.id}/cancel")
        with pytest.raises(openai.APIStatusError) as error:
            await asking
    assert error.value.response.headers["x-should-retry"] == "false"
    assert error.value.response.headers["x-job-id"] == running.job.id
    assert len((await http.get("/v1/jobs")).json()["data"]) == 1

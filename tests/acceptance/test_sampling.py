"""Every sampling parameter through the whole system: the answer is the same alone, in a crowd, streamed,
whole, in a job, and taken up again at every cut."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.acceptance.sse import Answer, Block, blocks
from tests.acceptance.system import System
from tests.acceptance.test_chat import PROMPT, submit, wait_for
from tests.features import END, ENDLESS, NAMES, ONE, PLAIN, features
from tests.tiny_chat_model import reference_logits, reference_prompt_logits

pytestmark = pytest.mark.timeout(180)
CHAT = "/v1/chat/completions"


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [{"role": "user", "content": PROMPT}], **fields}


def ask(http: httpx.Client, **fields: Any) -> Answer:
    response = http.post(CHAT, json=body(**fields))
    assert response.status_code == 200, response.text
    return Answer.of_completion(response.json())


def stream(http: httpx.Client, **fields: Any) -> list[Block]:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    with http.stream("POST", CHAT, json=body(**fields, **options)) as response:
        assert response.status_code == 200, response.read()
        return list(blocks(response))


@pytest.fixture(scope="module")
def asked(system: System) -> dict[str, dict[str, Any]]:
    """What each feature asks for."""
    with system.http() as http:
        return features(ask(http, **PLAIN).texts[0])


@pytest.fixture(scope="module")
def alone(system: System, asked: dict[str, dict[str, Any]]) -> dict[str, Answer]:
    """The whole answer to each feature, one after the other."""
    with system.http() as http:
        return {name: ask(http, **fields) for name, fields in {**asked, "plain": PLAIN}.items()}


@contextmanager
def crowd(system: System) -> Iterator[None]:
    """Eight neighbours, each drawn in another way, all of which are still there in the end."""
    with system.http() as http:
        ways = list(ENDLESS.values())[:8]
        jobs = [
            submit(http, **{**PLAIN, **way, "seed": seed, "max_tokens": 3900, "ignore_eos": True})
            for seed, way in enumerate(ways)
        ]
        for job in jobs:
            wait_for(http, job["id"], lambda found: found["positions"] != [0])
        yield
        assert {http.get(f"/v1/jobs/{job['id']}").json()["status"] for job in jobs} == {"in_progress"}
        for job in jobs:
            http.post(f"/v1/jobs/{job['id']}/cancel")


@pytest.mark.parametrize("name", NAMES)
def test_a_parameter_changes_the_answer(alone: dict[str, Answer], name: str) -> None:
    plain, found = alone["plain"], alone[name]
    if name == "logprobs":
        assert (found.texts, found.finish, found.usage) == (plain.texts, plain.finish, plain.usage)
    elif name == "n":
        assert found.texts[0] == plain.texts[0] and len(set(found.texts.values())) == 3
    else:
        assert found.texts != plain.texts


@pytest.mark.parametrize("name", NAMES)
def test_streamed_it_is_the_same(
    system: System, asked: dict[str, dict[str, Any]], alone: dict[str, Answer], name: str
) -> None:
    with system.http() as http:
        assert Answer.of(stream(http, **asked[name])) == alone[name]


@pytest.mark.parametrize("name", NAMES)
def test_taken_up_at_every_cut_it_is_the_same(
    system: System, asked: dict[str, dict[str, Any]], alone: dict[str, Answer], name: str
) -> None:
    with system.http(0) as http, system.http(1) as other:
        found = stream(http, **asked[name])
        url = f"{CHAT}/{found[0].json['id']}/events"
        for cut in range(len(found) - 1):
            last_id = found[cut].id
            assert last_id is not None
            with other.stream("GET", url, headers={"last-event-id": last_id}) as response:
                rest = list(blocks(response))
            assert Answer.of(found[: cut + 1] + rest) == alone[name], cut


def test_in_a_crowd_it_is_the_same(
    system: System, asked: dict[str, dict[str, Any]], alone: dict[str, Answer]
) -> None:
    with crowd(system), system.http() as http, ThreadPoolExecutor(len(asked)) as pool:
        streams = {name: pool.submit(stream, http, **fields) for name, fields in asked.items()}
        found = {name: Answer.of(one.result()) for name, one in streams.items()}
    assert found == {name: alone[name] for name in asked}


def test_after_its_worker_was_killed_it_is_the_same(system: System) -> None:
    worker = system.part_pid("worker-1")
    # Long enough to be cut off in the middle, each at a place of its own.
    longer = {"max_tokens": 200, "ignore_eos": True}
    with system.http() as http:
        asked = features(ask(http, **PLAIN).texts[0])
        # These first: all of them are to have a slot when the worker is killed.
        asked = {name: {**asked[name], **longer} for name in ENDLESS} | {
            name: fields for name, fields in asked.items() if name not in ENDLESS
        }
        with ThreadPoolExecutor(len(asked)) as pool:
            answers = pool.map(lambda fields: ask(http, **fields), asked.values())
            undisturbed = dict(zip(asked, answers, strict=True))
        whole = {**PLAIN, **longer, "prompt_logprobs": 2}
        expected = http.post(CHAT, json=body(**whole)).json()
        job = submit(http, **whole)
        num_begun = itertools.count(1)

        def read(name: str) -> list[Block]:
            found: list[Block] = []
            with http.stream("POST", CHAT, json=body(**asked[name], stream=True)) as response:
                for block in blocks(response):
                    found.append(block)
                    if name in ENDLESS and len(found) == 8 and next(num_begun) == len(ENDLESS):
                        os.kill(worker, signal.SIGKILL)
            return found

        with ThreadPoolExecutor(len(asked)) as pool:
            streams = {name: pool.submit(read, name) for name in asked}
            found = {name: one.result() for name, one in streams.items()}
        ids = [found[name][0].json["id"].replace("chatcmpl-", "job_") for name in ENDLESS]
        assert {http.get(f"/v1/jobs/{job_id}").json()["attempts"] for job_id in ids} == {2}
        ended = wait_for(http, job["id"], lambda found: found["result"] is not None)
        assert ended["attempts"] == 2
        for part in ("prompt_logprobs", "choices"):
            assert ended["result"][part] == expected[part]
    for name, told in found.items():
        assert dataclasses.replace(Answer.of(told), usage=undisturbed[name].usage) == undisturbed[name], name


def test_in_a_job_it_is_the_same(
    system: System, asked: dict[str, dict[str, Any]], alone: dict[str, Answer]
) -> None:
    with system.http() as http:
        for name, fields in asked.items():
            job = submit(http, **fields)
            ended = wait_for(http, job["id"], lambda found: found["result"] is not None)
            assert Answer.of_completion(ended["result"]) == alone[name], name
            page = http.get(f"/v1/jobs/{job['id']}/events", headers={"accept": "application/json"}).json()
            told = Answer({}, {}, alone[name].usage, True)
            for event in page["events"]:
                if event["event"] == "job.output":
                    told.add(event["data"])
            assert told == alone[name], name


def test_nothing_ends_an_answer_before_its_least_length(alone: dict[str, Answer]) -> None:
    found = alone["min_tokens"]
    assert (found.finish, found.usage and found.usage["completion_tokens"]) == ({0: "stop"}, 21)
    ignored = alone["ignore_eos"]
    assert (ignored.finish, ignored.usage and ignored.usage["completion_tokens"]) == ({0: "length"}, 40)


def test_a_stop_string_is_not_shown(alone: dict[str, Answer], asked: dict[str, dict[str, Any]]) -> None:
    plain, found = alone["plain"].texts[0], alone["stop"]
    assert (found.texts[0], found.finish) == (plain[: plain.index(asked["stop"]["stop"][1])], {0: "stop"})


def test_the_stop_string_is_shown_if_requested(
    alone: dict[str, Answer], asked: dict[str, dict[str, Any]]
) -> None:
    without, shown = alone["stop"], alone["stop, shown"]
    assert shown.texts[0] == without.texts[0] + asked["stop"]["stop"][1]
    assert (shown.finish, shown.usage) == (without.finish, without.usage)
    without, shown = alone["stop_token_ids"], alone["stop_token_ids, shown"]
    last = bytes(shown.logprobs[0][-1]["bytes"]).decode()
    assert last and shown.texts[0] == without.texts[0] + last


def test_special_tokens_are_shown_if_requested(alone: dict[str, Answer]) -> None:
    """They are text like other text: a stop string may begin within one and end in the next."""
    found = alone["skip_special_tokens"]
    assert found.texts[0].endswith("<|") and found.finish == {0: "stop"}
    assert "<|" not in alone["ignore_eos"].texts[0]


def test_lists_that_leave_no_token_are_a_true_400(system: System) -> None:
    fields = {"allowed_token_ids": [ONE], "logit_bias": {}, "structured_outputs": {"choice": ["\u00e4"]}}
    with pytest.raises(openai.BadRequestError) as caught:
        system.openai().chat.completions.create(**body(**PLAIN), extra_body=fields)
    assert (caught.value.code, caught.value.param) == ("no_token_left", "allowed_token_ids")


def test_a_stop_token_ends_the_answer(system: System, alone: dict[str, Answer]) -> None:
    found = alone["stop_token_ids"]
    assert found.finish == {0: "stop"}
    with system.http() as http:
        told = ask(http, **PLAIN, stop_token_ids=[ONE], logit_bias={str(ONE): 5}, logprobs=True)
    assert (told.texts, told.usage) == (found.texts, found.usage)
    assert told.usage and len(told.logprobs[0]) == told.usage["completion_tokens"] < 40


def test_a_bias_of_a_hundred_decides(system: System) -> None:
    with system.http() as http:
        found = ask(http, **{**PLAIN, "logit_bias": {str(ONE): 100}, "logprobs": True})
        ended = ask(http, **{**PLAIN, "logit_bias": {str(END): 100}})
    assert len({str(one["bytes"]) for one in found.logprobs[0]}) == 1
    assert ended.usage and ended.usage["completion_tokens"] == 1


@pytest.mark.parametrize("fields", [{"top_k": 1}, {"min_p": 1}, {"top_p": 1e-6}])
def test_the_likeliest_alone_is_greedy(
    system: System, alone: dict[str, Answer], fields: dict[str, Any]
) -> None:
    with system.http() as http:
        assert ask(http, **PLAIN, **fields) == alone["greedy"]


def test_the_official_client_reads_logprobs(system: System, tiny_model: Path) -> None:
    client = system.openai()
    asked: dict[str, Any] = body(temperature=0, max_tokens=12, logprobs=True, top_logprobs=5)
    whole = client.chat.completions.create(**asked).choices[0]
    chunks = list(client.chat.completions.create(**asked, stream=True))
    streamed = [one for chunk in chunks if (told := chunk.choices[0].logprobs) for one in told.content or []]
    assert whole.logprobs is not None and whole.logprobs.content is not None
    content = whole.logprobs.content
    assert [one.model_dump() for one in streamed] == [one.model_dump() for one in content]
    assert (
        bytes(byte for one in content for byte in one.bytes or []).decode("utf-8", "replace")
        == whole.message.content
    )
    logits = reference_logits(tiny_model, PROMPT, 12)
    best = logits.log_softmax(-1).topk(5).values
    for one, expected in zip(content, best.tolist(), strict=True):
        assert [top.logprob for top in one.top_logprobs] == pytest.approx(expected, abs=1e-3)
        assert one.logprob == one.top_logprobs[0].logprob and one.bytes == one.top_logprobs[0].bytes


def test_the_official_client_reads_prompt_logprobs_in_vllms_form(system: System, tiny_model: Path) -> None:
    client = system.openai()
    asked = body(temperature=1, max_tokens=2, n=2, extra_body={"prompt_logprobs": 3})
    first, *told = client.chat.completions.create(**asked).model_extra["prompt_logprobs"]
    token_ids, logits = reference_prompt_logits(tiny_model, PROMPT)
    assert first is None and len(told) == len(token_ids) - 1
    for token_id, one, row in zip(token_ids[1:], told, logits.log_softmax(-1), strict=False):
        own, best = str(token_id), row.topk(3)
        assert list(one) == list(dict.fromkeys([own, *map(str, best.indices.tolist())]))
        for key, value in one.items():
            assert value["logprob"] == pytest.approx(float(row[int(key)]), abs=1e-4)
            # The special tokens are equally likely here: then the id goes first.
            equal_before = int((row[: int(key)] == row[int(key)]).sum())
            assert value["rank"] == 1 + int((row > row[int(key)]).sum()) + equal_before
    text = "".join(
        one[str(token_id)]["decoded_token"] for token_id, one in zip(token_ids[1:], told, strict=True)
    )
    assert text == f"user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"
    # The second time the prompt is known; a job is told the same.
    again = client.chat.completions.create(**asked).model_extra["prompt_logprobs"]
    assert again == [None, *told]
    with system.http() as http:
        job = submit(http, max_tokens=2, prompt_logprobs=3)
        result = wait_for(http, job["id"], lambda found: found["result"] is not None)["result"]
    assert result["prompt_logprobs"] == again
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**asked, stream=True)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "prompt_logprobs")


def test_the_official_client_sends_vllms_names(system: System, alone: dict[str, Answer]) -> None:
    client = system.openai()
    extra = {"top_k": 1, "min_p": 0.5, "ignore_eos": True, "min_tokens": 3, "skip_special_tokens": True}
    found = client.chat.completions.create(**body(**PLAIN), extra_body=extra)
    assert found.choices[0].message.content == alone["greedy"].texts[0]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**body(), extra_body={"guided_json": {}})
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "guided_json")


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"logit_bias": {"1000000000": 1}}, "logit_bias.1000000000"),
        ({"stop_token_ids": [5, 2**31 - 1]}, "stop_token_ids[1]"),
        ({"min_tokens": 4096}, "min_tokens"),
        ({"allowed_token_ids": [5, 400]}, "allowed_token_ids[1]"),
        ({"bad_words": ["a", " "]}, "bad_words[1]"),
    ],
)
def test_an_error_found_by_the_worker_is_a_400(
    system: System, fields: dict[str, Any], param: str, is_streamed: bool
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        system.openai().chat.completions.create(**body(**PLAIN), stream=is_streamed, extra_body=fields)
    assert (caught.value.code, caught.value.param) == ("invalid_value", param)

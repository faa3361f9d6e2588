"""Completions through the whole system: all forms of prompts, echo with log probabilities, streams that are resumed."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import pytest
import torch

from tests.acceptance.sse import Block, blocks
from tests.acceptance.system import System
from tests.tiny_chat_model import loaded

pytestmark = pytest.mark.timeout(180)
COMPLETIONS = "/v1/completions"
PROMPT = "count from one to thirty"


def body(prompt: Any = PROMPT, **fields: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": prompt, "temperature": 0, **fields}


def ask(system: System, prompt: Any = PROMPT, **fields: Any) -> dict[str, Any]:
    with system.http() as http:
        response = http.post(COMPLETIONS, json=body(prompt, **fields))
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def ids_of(tiny_model: Path, text: str) -> list[int]:
    ids: list[int] = loaded(tiny_model)[1].encode(text)
    return ids


def continuation(tiny_model: Path, ids: list[int], num: int) -> str:
    """What transformers' own `generate` adds, greedily."""
    model, tokenizer = loaded(tiny_model)
    tokens = model.generate(torch.tensor([ids]), max_new_tokens=num, do_sample=False)[0, len(ids) :]
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    assert isinstance(text, str)
    return text


@dataclass
class Streamed:
    """What the chunks of a completion amount to."""

    texts: dict[int, str] = field(default_factory=dict)
    finish: dict[int, str] = field(default_factory=dict)
    logprobs: dict[int, dict[str, list[Any]]] = field(default_factory=dict)
    usage: dict[str, Any] | None = None
    is_done: bool = False

    @classmethod
    def of(cls, found: list[Block]) -> Streamed:
        answer = cls()
        for block in found:
            if block.data == "[DONE]":
                answer.is_done = True
                continue
            answer.usage = block.json.get("usage") or answer.usage
            for choice in block.json["choices"]:
                answer.add(choice)
        return answer

    def add(self, choice: dict[str, Any]) -> None:
        index = choice["index"]
        self.texts[index] = self.texts.get(index, "") + choice["text"]
        for name, values in (choice["logprobs"] or {}).items():
            self.logprobs.setdefault(index, {}).setdefault(name, []).extend(values)
        if choice["finish_reason"] is not None:
            self.finish[index] = choice["finish_reason"]

    def check(self, whole: dict[str, Any]) -> None:
        """It is what the whole answer says."""
        assert self.is_done and self.usage == whole["usage"]
        assert self.texts == {choice["index"]: choice["text"] for choice in whole["choices"]}
        assert self.finish == {choice["index"]: choice["finish_reason"] for choice in whole["choices"]}
        found = {choice["index"]: choice["logprobs"] for choice in whole["choices"] if choice["logprobs"]}
        assert self.logprobs == found


def read(system: System, replica: int, method: str, url: str, **request: Any) -> list[Block]:
    with system.http(replica) as http, http.stream(method, url, **request) as response:
        assert response.status_code == 200, response.read()
        return list(blocks(response))


def test_the_official_client_gets_what_generate_adds(system: System, tiny_model: Path) -> None:
    client = system.openai()
    answer = client.completions.create(**body(max_tokens=40))
    expected = continuation(tiny_model, ids_of(tiny_model, PROMPT), 40)
    assert answer.choices[0].text == expected and answer.choices[0].finish_reason == "length"
    assert answer.usage is not None and answer.usage.completion_tokens == 40
    chunks = list(client.completions.create(**body(max_tokens=40), stream=True))
    assert "".join([chunk.choices[0].text for chunk in chunks]) == expected
    assert len(client.completions.create(**body()).choices[0].text) > 0  # 16 tokens


def test_every_form_of_prompt_is_the_same(system: System, tiny_model: Path) -> None:
    other = "tell me what comes after"
    ids, other_ids = ids_of(tiny_model, PROMPT), ids_of(tiny_model, other)
    expected = [continuation(tiny_model, each, 12) for each in (ids, other_ids)]
    forms: list[Any] = [PROMPT, [PROMPT], ids, [ids]]
    for form in forms:
        assert [choice["text"] for choice in ask(system, form, max_tokens=12)["choices"]] == expected[:1]
    for form in ([PROMPT, other], [ids, other_ids]):
        found = ask(system, form, max_tokens=12, n=2)
        assert [choice["index"] for choice in found["choices"]] == [0, 1, 2, 3]
        assert [choice["text"] for choice in found["choices"]] == [expected[0]] * 2 + [expected[1]] * 2
        assert found["usage"]["prompt_tokens"] == len(ids) + len(other_ids)
        assert found["usage"]["completion_tokens"] == 48


def test_the_contract_of_the_evaluation_harness(system: System, tiny_model: Path) -> None:
    """lm-evaluation-harness (`openai_completions.py`) sums log probabilities of a context's continuation."""
    contexts = [ids_of(tiny_model, text) for text in (PROMPT, "0123456789 01", "tell")]
    found = ask(system, contexts, max_tokens=1, logprobs=1, echo=True, seed=1234)
    model, tokenizer = loaded(tiny_model)
    for ids, choice in zip(contexts, found["choices"], strict=True):
        with torch.no_grad():
            expected = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
        logprobs = choice["logprobs"]
        assert len(logprobs["tokens"]) == len(logprobs["token_logprobs"]) == len(ids) + 1
        assert logprobs["token_logprobs"][0] is None and logprobs["top_logprobs"][0] is None
        assert "".join(logprobs["tokens"]) == choice["text"]
        assert choice["text"].startswith(tokenizer.decode(ids))
        for at, token_id in enumerate(ids[1:], 1):
            value, top = logprobs["token_logprobs"][at], logprobs["top_logprobs"][at]
            assert value == pytest.approx(expected[at - 1, token_id].item(), abs=1e-4)
            is_greedy = int(expected[at - 1].argmax()) == token_id
            assert (value == max(top.values())) == is_greedy
            assert top[logprobs["tokens"][at]] == value
        for text, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
            assert choice["text"][offset : offset + len(text)] == text


def test_a_limit_of_nought_only_looks_at_the_prompt(system: System, tiny_model: Path) -> None:
    ids = ids_of(tiny_model, PROMPT)
    found = ask(system, PROMPT, max_tokens=0, logprobs=0, echo=True)
    (choice,) = found["choices"]
    assert (choice["text"], choice["finish_reason"]) == (PROMPT, "length")
    assert len(choice["logprobs"]["tokens"]) == len(ids)
    assert found["usage"] == {"prompt_tokens": len(ids), "completion_tokens": 0, "total_tokens": len(ids)} | {
        name: value for name, value in found["usage"].items() if name.endswith("_details")
    }
    assert ask(system, PROMPT, max_tokens=0)["choices"][0]["text"] == ""
    stream = read(system, 0, "POST", COMPLETIONS, json=body(max_tokens=0, echo=True, stream=True))
    assert Streamed.of(stream).texts == {0: PROMPT}


def test_the_best_choices_come_first(system: System) -> None:
    ways: dict[str, Any] = {"temperature": 1, "seed": 5, "max_tokens": 10}
    drawn = ask(system, n=6, logprobs=0, **ways)["choices"]
    means = {c["text"]: sum(c["logprobs"]["token_logprobs"]) / 10 for c in drawn}
    best = ask(system, n=2, best_of=6, **ways)
    assert [choice["text"] for choice in best["choices"]] == sorted(means, key=means.__getitem__)[:-3:-1]
    assert [choice["index"] for choice in best["choices"]] == [0, 1]
    assert best["choices"][0]["logprobs"] is None and best["usage"]["completion_tokens"] == 60


def test_a_suffix_needs_a_model_that_can_fill_in(system: System) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        system.openai().completions.create(**body(suffix="the end"))
    assert caught.value.param == "suffix"


@pytest.mark.parametrize("fields", [{"logprobs": 2}, {"echo": True}, {"n": 2, "temperature": 1, "seed": 4}])
def test_a_stream_is_cut_and_resumed_at_another_replica(system: System, fields: dict[str, Any]) -> None:
    prompts = [PROMPT, "tell me"]
    asked = {"max_tokens": 30, **fields}
    whole = ask(system, prompts, **asked)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    found = read(system, 0, "POST", COMPLETIONS, json=body(prompts, **asked, **options))
    Streamed.of(found).check(whole)
    url = f"{COMPLETIONS}/{found[0].json['id']}"
    for cut in range(0, len(found) - 1, 7):
        rest = read(system, 1, "GET", f"{url}/events", headers={"last-event-id": found[cut].id or ""})
        Streamed.of(found[: cut + 1] + rest).check(whole)
    with system.http(1) as http:
        assert http.get(url).json()["choices"] == whole["choices"]


def test_a_worker_that_dies_changes_nothing(system: System, tiny_model: Path) -> None:
    length = 500
    asked = body(max_tokens=length, echo=True, stream=True)
    found: list[Block] = []
    with system.http() as http, http.stream("POST", COMPLETIONS, json=asked) as response:
        for block in blocks(response):
            found.append(block)
            if len(found) == 5:
                os.kill(system.part_pid("worker-1"), signal.SIGKILL)
    expected = PROMPT + continuation(tiny_model, ids_of(tiny_model, PROMPT), length)
    assert Streamed.of(found).texts == {0: expected}


def test_it_runs_as_a_job(system: System, tiny_model: Path) -> None:
    with system.http() as http:
        asked = {"endpoint": COMPLETIONS, "body": body(max_tokens=8)}
        job = http.post("/v1/jobs", json=asked).json()
        done = http.get(f"/v1/jobs/{job['id']}", params={"wait": 30}).json()
    expected = continuation(tiny_model, ids_of(tiny_model, PROMPT), 8)
    assert done["result"]["choices"][0]["text"] == expected
    assert done["result"]["object"] == "text_completion"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": {"text": "a"}}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": [[1], [-1]]}, "prompt[1][0]"),
        ({"prompt": [[1], []]}, "prompt[1]"),
        ({"prompt": [99_999_999]}, "prompt[0]"),
        ({"prompt": ["a"] * 65}, "prompt"),
        ({"prompt": ["a"] * 33, "n": 2}, "prompt"),
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"echo": True, "logprobs": 1, "stream": True}, "logprobs"),
        ({"logprobs": 21}, "logprobs"),
        ({"suffix": "a", "prompt": [1, 2]}, "suffix"),
        ({"messages": []}, "messages"),
    ],
)
def test_bad_input_is_named(system: System, fields: dict[str, Any], param: str) -> None:
    with system.http() as http:
        response = http.post(COMPLETIONS, json={**body(), **fields})
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param

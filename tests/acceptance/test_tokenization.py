"""/tokenize and /detokenize through the whole system: what transformers' own tokenizer says."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.system import System
from tests.acceptance.test_chat import body, whole
from tests.tiny_chat_model import CONTEXT, loaded, reference_answer

pytestmark = pytest.mark.timeout(180)
TEXT = "count from 1 to 30, 漢字"


def post(system: System, path: str, **fields: Any) -> dict[str, Any]:
    with system.http() as http:
        response = http.post(path, json=fields)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_a_text_and_back(system: System, tiny_model: Path) -> None:
    tokenizer = loaded(tiny_model)[1]
    ids = tokenizer.encode(TEXT)
    found = post(system, "/tokenize", model="tiny", prompt=TEXT)
    assert found == {"count": len(ids), "max_model_len": CONTEXT, "tokens": ids, "token_strs": None}
    assert post(system, "/detokenize", model="tiny", tokens=ids) == {"prompt": TEXT}
    named = post(system, "/tokenize", prompt=TEXT, return_token_strs=True)
    assert named["token_strs"] == tokenizer.convert_ids_to_tokens(ids)
    assert post(system, "/tokenize", prompt="")["tokens"] == []
    assert post(system, "/detokenize", tokens=[]) == {"prompt": ""}


def test_a_conversation_is_what_a_chat_counts(system: System, tiny_model: Path) -> None:
    messages = body(TEXT)["messages"]
    found = post(system, "/tokenize", model="tiny", messages=messages)
    expected = loaded(tiny_model)[1].apply_chat_template(
        messages, add_generation_prompt=True, return_dict=False
    )
    assert found["tokens"] == expected
    answer = system.openai().chat.completions.create(**body(TEXT, max_tokens=1))
    assert answer.usage is not None and answer.usage.prompt_tokens == found["count"]
    without = post(system, "/tokenize", messages=messages, add_generation_prompt=False)
    assert without["count"] < found["count"]


def test_full_slots_do_not_delay_it(system: System, tiny_model: Path) -> None:
    """32 chats run; the answers come meanwhile, and the chats are as ever."""
    with ThreadPoolExecutor(40) as clients:
        asked = [{"prompt": f"tell {n}", "max_tokens": 200} for n in range(32)]
        chats = [clients.submit(whole, system, **each) for each in asked]
        counts = list(clients.map(lambda _: post(system, "/tokenize", prompt=TEXT * 100)["count"], range(8)))
        assert len(set(counts)) == 1
        for number, chat in enumerate(chats):
            assert chat.result() == reference_answer(tiny_model, f"tell {number}", 200)


def test_it_is_asked_again_when_the_worker_dies(system: System) -> None:
    pid = system.part_pid("worker-1")
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as clients, system.http() as http:
        asking = clients.submit(http.post, "/tokenize", json={"prompt": TEXT})
        os.kill(pid, signal.SIGKILL)
        status = asking.result().status_code
    assert status in (200, 503)  # by whether another worker is there in time
    system.wait_until(system.is_ready, 60)
    assert post(system, "/tokenize", prompt=TEXT)["count"] > 0


@pytest.mark.parametrize(
    ("path", "fields", "status", "param"),
    [
        ("/tokenize", {}, 400, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, 400, "prompt"),
        ("/tokenize", {"prompt": 1}, 400, "prompt"),
        ("/tokenize", {"messages": []}, 400, "messages"),
        ("/tokenize", {"messages": [{"role": "user"}]}, 400, "messages[0].content"),
        ("/tokenize", {"prompt": "a", "model": "nobody"}, 404, "model"),
        ("/tokenize", {"prompt": "a", "tools": [{}]}, 400, "tools"),
        ("/detokenize", {}, 400, "tokens"),
        ("/detokenize", {"tokens": [1, "a"]}, 400, "tokens[1]"),
        ("/detokenize", {"tokens": [10**6]}, 400, "tokens[0]"),
        ("/tokenize", {"prompt": "a" * 1_000_000}, 400, "prompt"),
    ],
)
def test_bad_input_is_named(
    system: System, path: str, fields: dict[str, Any], status: int, param: str
) -> None:
    with system.http() as http:
        response = http.post(path, json=fields)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param), response.text

"""The whole answer is the fold of the job's stream, however the stream was cut."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from api.dialects.openai_chat.completion import completion
from api.dialects.openai_chat.ids import call_id, completion_id, job_id_of
from api.streaming.cursor import Cursor
from shared.domain.output import Args, ChoiceOutput, Finish, Open, Reasoning
from shared.domain.output import Text as PlainText
from shared.domain.prompt_logprobs import PromptLogprobs, PromptToken
from shared.domain.result import Result
from shared.domain.usage import Usage
from tests.unit.api.streams import (
    JOB_ID,
    PROMPT_TOKENS,
    Answers,
    answers,
    job_info,
    output,
    read_all,
    rich_answers,
    tell,
)


def fold(told: Answers, seed: int) -> Result:
    """As a reader of the whole stream makes it."""
    result = Result.empty(told.n)
    for update in read_all(tell(told, seed), Cursor.start(JOB_ID, told.n)):
        if isinstance(update.event, ChoiceOutput):
            result.take([update.event])
        result.used = update.used
    return result


@given(answers, st.integers())
def test_plain_text_is_the_content(told: Answers, seed: int) -> None:
    tokens = sum(map(len, told.tokens))
    assert completion(job_info(told.n), fold(told, seed)) == {
        "id": "chatcmpl-AbCdEfGh0123456789012345",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "m",
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": "".join(map(str, units)), "refusal": None},
                "logprobs": (
                    {"content": told.logprobs[index], "refusal": None} if index in told.logprobs else None
                ),
                "finish_reason": told.finish[index],
            }
            for index, units in enumerate(told.tokens)
        ],
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": tokens,
            "total_tokens": PROMPT_TOKENS + tokens,
        },
    }


@given(rich_answers, st.integers(), st.integers())
def test_it_is_the_same_for_every_stream_and_from_the_stored_result(
    told: Answers, first: int, second: int
) -> None:
    stored = Result.decode(fold(told, first).encode())
    assert completion(job_info(told.n), stored) == completion(job_info(told.n), fold(told, second))


def shown(*units: str | tuple[Any, ...], finish: str = "stop", used: Usage = Usage()) -> dict[str, Any]:
    result = fold(Answers((units,), (finish,)), 0)
    result.used = used
    return completion(job_info(), result)


def test_reasoning_and_calls_have_fields_of_their_own() -> None:
    units = (
        (Reasoning("hm"),),
        "!",
        (PlainText("Let me see."),),
        (Open("f"), Args("{")),
        "}",
        (Open("g", "call_g"),),
    )
    assert shown(*units, finish="tool_calls")["choices"][0] == {
        "index": 0,
        "message": {
            "role": "assistant",
            "content": "Let me see.",
            "refusal": None,
            "reasoning_content": "hm!",
            "tool_calls": [
                {
                    "id": call_id(JOB_ID, 0, 0),
                    "type": "function",
                    "function": {"name": "f", "arguments": "{}"},
                },
                {"id": "call_g", "type": "function", "function": {"name": "g", "arguments": ""}},
            ],
        },
        "logprobs": None,
        "finish_reason": "tool_calls",
    }


def test_calls_alone_have_no_content() -> None:
    assert shown((Open("f"),))["choices"][0]["message"]["content"] is None
    assert shown("")["choices"][0]["message"]["content"] == ""


def test_details_of_usage_are_shown_where_they_count_something() -> None:
    assert shown("a", used=Usage(7, 5, 3, 2))["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


PROMPT = PromptLogprobs(
    (PromptToken(5, -2.25, 9, ((7, -0.5), (8, -1.0))), PromptToken(7, -0.5, 1, ((7, -0.5), (5, -3.0)))),
    {5: "é", 7: "a", 8: ""},
)


def test_the_prompts_logprobs_are_shown_as_vllm_does() -> None:
    result = Result.empty(2)
    result.take([ChoiceOutput(0, 0, (1,), ("x",), Finish("stop"), prompt_logprobs=PROMPT)])
    result.take([output(1, 0, "x", finish="stop")])
    found = completion(job_info(2), result)
    assert found["prompt_logprobs"] == [
        None,
        {
            "5": {"logprob": -2.25, "rank": 9, "decoded_token": "é"},
            "7": {"logprob": -0.5, "rank": 1, "decoded_token": "a"},
            "8": {"logprob": -1.0, "rank": 2, "decoded_token": ""},
        },
        {
            "7": {"logprob": -0.5, "rank": 1, "decoded_token": "a"},
            "5": {"logprob": -3.0, "rank": 2, "decoded_token": "é"},
        },
    ]
    assert [list(one) for one in found["prompt_logprobs"][1:]] == [["5", "7", "8"], ["7", "5"]]


def test_ids_are_functions_of_the_job() -> None:
    assert completion_id(JOB_ID) == "chatcmpl-AbCdEfGh0123456789012345"
    assert job_id_of("chatcmpl-AbCdEfGh0123456789012345") == JOB_ID
    assert job_id_of(JOB_ID) is None
    ids = {call_id(JOB_ID, choice, call) for choice in range(3) for call in range(3)}
    assert len(ids) == 9 and all(one.startswith("call_") and one[5:].isalnum() for one in ids)

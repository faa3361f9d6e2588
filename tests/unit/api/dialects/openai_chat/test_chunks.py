"""Update become a completion."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from api.dialects.openai_chat.chunks import completion, job_id_of
from api.streaming.cursor import Cursor
from shared.domain.events import Completed, Entry, Output
from shared.domain.prompt_logprobs import PromptLogprobs, PromptToken
from tests.unit.api.streams import JOB_ID, PROMPT_TOKENS, Answers, answers, job_info, output, read_all, tell


@given(answers, st.integers())
def test_a_completion_is_the_fold_of_its_stream(told: Answers, seed: int) -> None:
    news = read_all(tell(told, seed), Cursor.start(JOB_ID, told.n))
    tokens = sum(map(len, told.tokens))
    assert completion(job_info(told.n), news) == {
        "id": "chatcmpl-AbCdEfGh0123456789012345",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "m",
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": "".join(texts), "refusal": None},
                "logprobs": (
                    {"content": told.logprobs[index], "refusal": None} if index in told.logprobs else None
                ),
                "finish_reason": told.finish[index],
            }
            for index, texts in enumerate(told.tokens)
        ],
        "usage": {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": tokens,
            "total_tokens": PROMPT_TOKENS + tokens,
        },
    }


def test_a_completion_tells_the_prompt_as_vllm_does() -> None:
    token = PromptToken(5, -2.25, 9, ((7, -0.5), (8, -1.0)))
    told = PromptLogprobs((token, PromptToken(7, -0.5, 1, ((7, -0.5), (5, -3.0)))), {5: "é", 7: "a", 8: ""})
    first = replace(output(0, 0, "x"), prompt_logprobs=told)
    entries = [
        Entry("2-1", (1, 1), Output((first, output(1, 0, "x")))),
        Entry("2-2", (1, 1), Output((output(0, 1, finish="stop"), output(1, 1, finish="stop")))),
        Entry("2-3", (1, 1), Completed(3)),
    ]
    found = completion(job_info(2), read_all(entries, Cursor.start(JOB_ID, 2)._replace(marker=2)))
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


def test_a_completion_is_named_after_its_job() -> None:
    assert job_info().completion_id == "chatcmpl-AbCdEfGh0123456789012345"
    assert job_id_of("chatcmpl-AbCdEfGh0123456789012345") == JOB_ID
    assert job_id_of(JOB_ID) == ""

"""News become a completion."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.cursor import Cursor
from api.translate import completion, job_id_of
from tests.unit.api.streams import JOB_ID, PROMPT_TOKENS, Answers, answers, facts, read_all, tell


@given(answers, st.integers())
def test_a_completion_is_the_fold_of_its_stream(told: Answers, seed: int) -> None:
    news = read_all(tell(told, seed), Cursor.start(JOB_ID, told.n))
    tokens = sum(map(len, told.tokens))
    assert completion(facts(told.n), news) == {
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


def test_a_completion_is_named_after_its_job() -> None:
    assert facts().completion_id == "chatcmpl-AbCdEfGh0123456789012345"
    assert job_id_of("chatcmpl-AbCdEfGh0123456789012345") == JOB_ID
    assert job_id_of(JOB_ID) == ""

"""A resolved request is stored, and read by any worker of its model's revision."""

from __future__ import annotations

import json

import pytest

from shared.domain.constraint import Constraint
from shared.domain.sampling import SamplingParams
from shared.errors import DecodeError
from workers.engine.resolved_request import ResolvedRequest

SAMPLING = SamplingParams(max_tokens=8, seed=1)
REQUESTS = [
    ResolvedRequest(((1, 2), (3,)), SAMPLING, (0,), "rev", "qwen/1"),
    ResolvedRequest(
        ((1, 2),),
        SamplingParams(
            max_tokens=8, seed=2**62, temperature=0.5, top_p=0.9, top_k=5, logit_bias=((3, -1.5),),
            stop=("\n", "é"), n=3,
        ),
        (0,),
        "rev",
    ),
    ResolvedRequest(
        ((1,),),
        SamplingParams(
            max_tokens=8, seed=0, allowed_token_ids=(1, 5), bad_words=((1,), (2, 3)), includes_stop=True,
            constraint=Constraint("regex", 'a|"b"', "structured_outputs.regex"),
        ),
        (),
        "rev",
    ),
]  # fmt: skip


@pytest.mark.parametrize("resolved", REQUESTS)
def test_a_resolved_request_decodes_to_itself(resolved: ResolvedRequest) -> None:
    assert ResolvedRequest.decode(resolved.encode()) == resolved


def test_fields_with_their_default_are_not_written() -> None:
    raw = '{"prompts":[[1]],"sampling":{"max_tokens":8,"seed":1},"stop_token_ids":[],"model_revision":"rev"}'
    resolved = ResolvedRequest(((1,),), SAMPLING, (), "rev")
    assert resolved.encode() == raw and ResolvedRequest.decode(raw) == resolved


def test_it_is_read_with_what_is_new() -> None:
    resolved = REQUESTS[0]
    later = json.loads(resolved.encode()) | {"mood": "good"}
    assert ResolvedRequest.decode(json.dumps(later)) == resolved


def test_a_parameter_of_sampling_that_is_new_is_not_passed_over() -> None:
    later = json.loads(REQUESTS[0].encode())
    later["sampling"]["beams"] = 4
    with pytest.raises(DecodeError):
        ResolvedRequest.decode(json.dumps(later))


@pytest.mark.parametrize("raw", ["", "{}", "[]", '{"prompts":[[1]],"sampling":{"x":1}}'])
def test_anything_else_is_a_decode_error(raw: str) -> None:
    with pytest.raises(DecodeError):
        ResolvedRequest.decode(raw)


def test_choices_belong_to_their_prompts() -> None:
    resolved = ResolvedRequest(((1, 2), (3,)), SamplingParams(max_tokens=8, seed=1, n=2), (), "rev")
    assert (resolved.num_choices, resolved.num_prompt_tokens) == (4, 3)
    assert [resolved.prompt_of(choice) for choice in range(4)] == [(1, 2), (1, 2), (3,), (3,)]

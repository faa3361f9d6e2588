"""Job ids and resolved requests."""

from __future__ import annotations

import pytest

from shared.domain.constraint import Constraint
from shared.domain.job import Job, ResolvedRequest, is_job_id, new_job_id
from shared.domain.sampling import SamplingParams
from shared.errors import DecodeError


def test_new_ids_are_ids_and_differ() -> None:
    ids = {new_job_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(is_job_id(job_id) for job_id in ids)


@pytest.mark.parametrize(
    "text", ["", "job_", "job_" + "a" * 23, "job_" + "a" * 23 + "*", "job_" + "a" * 25, "é" * 28]
)
def test_no_other_text_is_an_id(text: str) -> None:
    assert not is_job_id(text)


def test_a_resolved_request_decodes_to_itself() -> None:
    sampling = SamplingParams(8, 2**62, 0.5, 0.9, top_k=5, logit_bias=((3, -1.5),), stop=("\n", "é"), n=3)
    resolved = ResolvedRequest((1, 2), sampling, (0,), "rev")
    assert ResolvedRequest.decode(resolved.encode()) == resolved


def test_lists_of_tokens_are_decoded_with_their_request() -> None:
    sampling = SamplingParams(8, 0, allowed_token_ids=(1, 5), bad_words=((1,), (2, 3)), includes_stop=True)
    resolved = ResolvedRequest((1,), sampling, (0,), "rev")
    assert ResolvedRequest.decode(resolved.encode()) == resolved


def test_a_constraint_is_decoded_with_its_request() -> None:
    constraint = Constraint("regex", 'a|"b"', "structured_outputs.regex")
    resolved = ResolvedRequest((1,), SamplingParams(8, 0, constraint=constraint), (0,), "rev")
    assert ResolvedRequest.decode(resolved.encode()) == resolved


def test_a_request_without_a_constraint_is_written_as_before_there_were_any() -> None:
    resolved = ResolvedRequest((1,), SamplingParams(8, 0), (0,), "rev")
    assert "constraint" not in resolved.encode()
    assert ResolvedRequest.decode(resolved.encode()) == resolved


@pytest.mark.parametrize("raw", ["", "{}", "[]", '{"prompt_token_ids":[1],"sampling":{"x":1}}'])
def test_a_broken_resolved_request_is_a_decode_error(raw: str) -> None:
    with pytest.raises(DecodeError):
        ResolvedRequest.decode(raw)


def test_a_broken_record_is_a_decode_error() -> None:
    with pytest.raises(DecodeError):
        Job.decode({"id": "job_x"}, (0,))

"""workers.engine.requests.limits."""

from __future__ import annotations

from typing import Any

import pytest

from shared.domain.job import ResolvedRequest
from shared.domain.sampling import SamplingParams
from shared.errors import RequestError
from workers.engine.requests.limits import RequestLimits

ADMISSION = RequestLimits(max_model_len=20, vocab_size=100)


def request(
    prompt: tuple[int, ...] = (1, 99), stop_token_ids: tuple[int, ...] = (0, 99), **changed: Any
) -> ResolvedRequest:
    return ResolvedRequest(
        prompt, SamplingParams(**{"max_tokens": 18, "seed": 0, **changed}), stop_token_ids, "revision"
    )


def test_what_fits_is_admitted() -> None:
    ADMISSION.check(request(logit_bias=((0, 1.0), (99, -1.0))))


@pytest.mark.parametrize(
    ("refused", "param", "code"),
    [
        (request(()), "messages", None),
        (request((1, 2, 3)), "messages", "context_length_exceeded"),
        (request((1, 100)), "messages", None),
        (request(stop_token_ids=(5, 100)), "stop_token_ids", None),
        (request(stop_token_ids=(-1,)), "stop_token_ids", None),
        (request(logit_bias=((-1, 1.0),)), "logit_bias", None),
        (request(logit_bias=((5, 1.0), (2**70, 1.0))), "logit_bias", None),
    ],
)
def test_what_would_harm_others_is_refused_with_its_field(
    refused: ResolvedRequest, param: str, code: str | None
) -> None:
    with pytest.raises(RequestError) as caught:
        ADMISSION.check(refused)
    info = caught.value.info
    assert (info.status, info.type, info.param, info.code) == (400, "invalid_request_error", param, code)

"""workers.engine.requests.limits."""

from __future__ import annotations

from typing import Any

import pytest

from shared.domain.sampling import SamplingParams
from shared.errors import RequestError
from workers.engine.requests.limits import RequestLimits
from workers.engine.resolved_request import ResolvedRequest

ADMISSION = RequestLimits(max_model_len=20, vocab_size=100)


def request(
    *prompts: tuple[int, ...], stop_token_ids: tuple[int, ...] = (0, 99), **changed: Any
) -> ResolvedRequest:
    sampling = SamplingParams(**{"max_tokens": 18, "seed": 0, **changed})
    return ResolvedRequest(prompts or ((1, 99),), sampling, stop_token_ids, "revision")


def test_what_fits_is_admitted() -> None:
    ADMISSION.check(request(logit_bias=((0, 1.0), (99, -1.0))))
    ADMISSION.check(request((1,), (2, 3)))


@pytest.mark.parametrize(
    ("refused", "code"),
    [
        (request(()), None),
        (request((1, 2, 3)), "context_length_exceeded"),
        (request((1,), (1, 2, 3)), "context_length_exceeded"),
        (request((1, 100)), None),
        (request((1,), (-1,)), None),
        (request(stop_token_ids=(5, 100)), None),
        (request(stop_token_ids=(-1,)), None),
        (request(logit_bias=((-1, 1.0),)), None),
        (request(logit_bias=((5, 1.0), (2**70, 1.0))), None),
        (request(allowed_token_ids=(100,)), None),
        (request(bad_words=((1,), (2, 100))), None),
    ],
)
def test_what_would_harm_others_is_refused(refused: ResolvedRequest, code: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        ADMISSION.check(refused)
    info = caught.value.info
    assert (info.status, info.type, info.code) == (400, "invalid_request_error", code)

"""StreamLimiter are counted by owner."""

from __future__ import annotations

import pytest

from api.http.stream_limiter import StreamLimiter
from shared.errors import RequestError


def test_one_too_many_is_refused_until_another_left() -> None:
    readers = StreamLimiter(2)
    with readers.admitted("a"):
        with readers.admitted("a"), readers.admitted("b"):
            with pytest.raises(RequestError) as caught, readers.admitted("a"):
                raise AssertionError
            assert (caught.value.info.status, caught.value.info.code) == (429, "rate_limit_exceeded")
        with readers.admitted("a"):
            pass


def test_a_reader_that_fails_leaves_too() -> None:
    readers = StreamLimiter(1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), readers.admitted("a"):
            raise ZeroDivisionError

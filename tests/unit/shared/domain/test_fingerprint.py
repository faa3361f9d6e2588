from __future__ import annotations

from dataclasses import replace

import pytest

from shared.domain.fingerprint import Fingerprint
from shared.errors import DecodeError

ONE = Fingerprint("rev", "float32", "oneDNN MKL avx2", "2.13", "a CPU", "d1", "0.1", threads=1)


def test_it_survives_encoding() -> None:
    assert Fingerprint.decode(ONE.encode()) == ONE
    with pytest.raises(DecodeError):
        Fingerprint.decode('{"dtype": 1}')


@pytest.mark.parametrize(
    "field", ["model_revision", "dtype", "kernels", "torch", "processor", "digest", "baton", "quant"]
)
def test_everything_but_the_threads_counts(field: str) -> None:
    changed: Fingerprint = replace(ONE, **{field: "other"})  # type: ignore[arg-type]
    assert changed.id != ONE.id
    assert replace(ONE, threads=2).id == ONE.id


def test_it_is_shown_whole() -> None:
    shown = ONE.to_json()
    assert shown["id"] == ONE.id and (shown["kernels"], shown["threads"]) == ("oneDNN MKL avx2", 1)

from __future__ import annotations

import pytest

from shared.model.model_name import model_name_of


@pytest.mark.parametrize(
    ("path_or_id", "name"),
    [
        ("Qwen/Qwen3-0.6B", "Qwen3-0.6B"),
        ("./models/tiny/", "tiny"),
        ("/models/tiny.gguf", "tiny.gguf"),
        ("tiny", "tiny"),
        ("", ""),
    ],
)
def test_the_last_part_is_the_name(path_or_id: str, name: str) -> None:
    assert model_name_of(path_or_id) == name

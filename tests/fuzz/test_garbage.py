from __future__ import annotations

import copy
import random
from typing import Any

from tests.fuzz.garbage import change, damage, json_text
from tests.fuzz.raw_http import Known, make

TREE: dict[str, Any] = {"a": [1, {"b": "c"}], "d": None}
KNOWN = Known("m", "job_" + "a" * 24, "chatcmpl-" + "a" * 24, "1.4f")


def test_the_same_seed_makes_the_same_garbage() -> None:
    def made(seed: int) -> list[bytes]:
        chance = random.Random(seed)
        return [json_text(chance, copy.deepcopy(TREE)) for _ in range(50)]

    assert made(1) == made(1) != made(2)
    assert [make(1, number, KNOWN) for number in range(50)] == [
        make(1, number, KNOWN) for number in range(50)
    ]


def test_trees_and_bytes_are_changed() -> None:
    chance = random.Random(3)
    changed = [change(chance, copy.deepcopy(TREE)) for _ in range(100)]
    assert sum(tree != TREE for tree in changed) > 90
    assert sum(damage(chance, b"0123456789") != b"0123456789" for _ in range(100)) > 80

from __future__ import annotations

import pytest

from tests.xdist_groups import group_of, turn_of


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/acceptance/test_chat.py::test_a", "tests/acceptance"),
        ("tests/acceptance/faults/test_full.py::test_a[tests/unit]", "tests/acceptance/faults"),
        ("tests/unit/api/http/test_auth.py::test_a[x::y]", "tests/unit/api/http/test_auth.py"),
        ("tests/soak/test_soak.py::TestSoak::test_a", "tests/soak/test_soak.py"),
    ],
)
def test_what_shares_a_system_or_a_file_is_one_group(nodeid: str, group: str) -> None:
    assert group_of(nodeid) == group


def test_long_groups_come_before_their_like() -> None:
    groups = [
        "tests/unit/api/http/test_auth.py",
        "tests/unit/workers/engine/test_engine.py",
        "tests/integration/api/test_jobs.py",
        "tests/integration/workers/test_speculation.py",
        "tests/acceptance",
    ]
    assert sorted(groups, key=turn_of) == groups[::-1]

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.guard import Guard, PatchDoesNotApply
from tests.mutants.guards import GUARDS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_every_guard_occurs_once_in_its_file(guard: Guard) -> None:
    assert guard.without((ROOT / guard.file).read_text()).count(guard.old) == 0
    assert guard.tests and all((ROOT / test).is_file() for test in guard.tests)


def test_names_tell_guards_apart() -> None:
    assert len({guard.name for guard in GUARDS}) == len(GUARDS)


@pytest.mark.parametrize("text", ["", "ab ab", "a"])
def test_a_patch_applies_once_or_not_at_all(text: str) -> None:
    with pytest.raises(PatchDoesNotApply):
        Guard("name", "file", "ab", "c", ("test",)).without(text)

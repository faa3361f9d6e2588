from __future__ import annotations

import pytest
import torch

from workers.engine.cache import slot_states
from workers.engine.cache.slot_states import SlotStates

LENGTH = 1024
#: A slot takes 512 KiB at this length.
LIKE = torch.zeros(1, 4, 1, 32)


def filled(num_slots: int, max_slots: int | None) -> SlotStates:
    subject = SlotStates(LENGTH, LIKE)
    assert subject.resize(num_slots, max_slots)
    assert subject.tensor.shape == (num_slots, 4, LENGTH, 32)
    assert not subject.tensor.any()
    subject.tensor.copy_(torch.arange(num_slots)[:, None, None, None] + 1)
    return subject


def marks(subject: SlotStates) -> list[float]:
    """The mark of each slot. Fails if a slot is not uniform."""
    first = subject.tensor[:, :1, :1, :1]
    assert torch.equal(subject.tensor, first.expand_as(subject.tensor))
    return first.flatten().tolist()


def test_slots_do_not_move_up_to_the_maximum() -> None:
    subject = filled(3, max_slots=30)
    address = subject.tensor.data_ptr()
    assert not subject.resize(30, 30)
    assert subject.tensor.data_ptr() == address
    assert marks(subject) == [1, 2, 3, *[0] * 27]


def test_removed_slots_come_back_with_their_whole_pages_zeroed() -> None:
    subject = filled(20, max_slots=30)
    address = subject.tensor.data_ptr()
    for num_slots in range(19, 4, -1):
        assert not subject.resize(num_slots, 30)
    assert marks(subject) == [1, 2, 3, 4, 5]
    assert not subject.resize(12, 30)
    assert subject.tensor.data_ptr() == address
    assert marks(subject)[:5] == [1, 2, 3, 4, 5]
    assert marks(subject)[8:] == [0, 0, 0, 0]


@pytest.mark.parametrize("max_slots", [None, 3])
def test_slots_beyond_the_reserved_space_are_copied(max_slots: int | None) -> None:
    subject = filled(3, max_slots)
    address = subject.tensor.data_ptr()
    assert subject.resize(6, max_slots)
    assert subject.tensor.data_ptr() != address
    assert marks(subject) == [1, 2, 3, 0, 0, 0]


def test_no_space_is_reserved_without_overcommit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_states, "can_overcommit", lambda: False)
    subject = filled(3, max_slots=30)
    assert subject.resize(4, 30)
    assert marks(subject) == [1, 2, 3, 0]

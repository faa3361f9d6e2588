from __future__ import annotations

import pytest
import torch

from workers.engine.cache import slot_states
from workers.engine.cache.slot_states import SlotStates

LENGTH = 1024
#: A place takes 512 KiB of them.
LIKE = torch.zeros(1, 4, 1, 32)


def filled(num_places: int, most: int | None) -> SlotStates:
    subject = SlotStates(LENGTH, LIKE)
    assert subject.resize(num_places, most)
    assert subject.tensor.shape == (num_places, 4, LENGTH, 32)
    assert not subject.tensor.any()
    subject.tensor.copy_(torch.arange(num_places)[:, None, None, None] + 1)
    return subject


def marks(subject: SlotStates) -> list[float]:
    """Of each place; fails where a place is not all alike."""
    first = subject.tensor[:, :1, :1, :1]
    assert torch.equal(subject.tensor, first.expand_as(subject.tensor))
    return first.flatten().tolist()


def test_places_stay_where_they_are_as_long_as_there_are_no_more_than_may_be() -> None:
    subject = filled(3, most=30)
    address = subject.tensor.data_ptr()
    assert not subject.resize(30, 30)
    assert subject.tensor.data_ptr() == address
    assert marks(subject) == [1, 2, 3, *[0] * 27]


def test_places_that_were_taken_away_come_back_without_what_fills_whole_pages_of_theirs() -> None:
    subject = filled(20, most=30)
    address = subject.tensor.data_ptr()
    for num_places in range(19, 4, -1):
        assert not subject.resize(num_places, 30)
    assert marks(subject) == [1, 2, 3, 4, 5]
    assert not subject.resize(12, 30)
    assert subject.tensor.data_ptr() == address
    assert marks(subject)[:5] == [1, 2, 3, 4, 5]
    assert marks(subject)[8:] == [0, 0, 0, 0]


@pytest.mark.parametrize("most", [None, 3])
def test_more_places_than_there_is_room_for_are_copied(most: int | None) -> None:
    subject = filled(3, most)
    address = subject.tensor.data_ptr()
    assert subject.resize(6, most)
    assert subject.tensor.data_ptr() != address
    assert marks(subject) == [1, 2, 3, 0, 0, 0]


def test_no_room_is_reserved_where_addresses_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_states, "addresses_are_free", lambda: False)
    subject = filled(3, most=30)
    assert subject.resize(4, 30)
    assert marks(subject) == [1, 2, 3, 0]

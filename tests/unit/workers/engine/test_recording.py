from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.overrides import handle_torch_function, has_torch_function_unary

from workers.engine.recording import NotReplayable, Recorder


def recorded(function: Callable[[], object]) -> list[str]:
    with Recorder() as recorder:
        function()
    return [call.function.__name__ for call in recorder.calls]


def test_calls_are_noted_in_order_and_questions_about_form_are_not() -> None:
    x = torch.ones(2, 3)
    assert recorded(lambda: x.view(x.shape[1], x.size(0)).mul(2)) == ["view", "mul"]


def test_what_a_call_does_inside_is_no_call_of_its_own() -> None:
    def double(x: torch.Tensor) -> torch.Tensor:
        if has_torch_function_unary(x):
            return handle_torch_function(double, (x,), x)
        return x + x if x.sum().item() else x

    assert recorded(lambda: double(torch.nn.functional.silu(torch.ones(2)))) == ["ones", "silu", "double"]


def test_writing_into_a_tensor_is_a_call() -> None:
    x = torch.ones(3)

    def write() -> None:
        x[0] = 2

    assert recorded(write) == ["__setitem__"]


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x[0] > 0),
        lambda x: x.tolist(),
        lambda x: 1 in x,
        lambda x: x.nonzero(),
        lambda x: torch.equal(x, x),
    ],
)
def test_whoever_looks_at_values_is_not_replayable(look: Callable[[torch.Tensor], object]) -> None:
    with pytest.raises(NotReplayable):
        recorded(lambda: look(torch.ones(2)))

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch

from workers.engine.recording import NotReplayable, Recorder, Recording
from workers.engine.transcript import Play, transcribe

Forward = Callable[[torch.Tensor], torch.Tensor]

#: By the number of tokens, tensors that no call made.
UNRECORDED: dict[int, torch.Tensor] = {5: torch.ones(1), 7: torch.ones(1)}
WEIGHT = torch.arange(12.0).view(3, 4)


def recorded(forward: Forward, num_tokens: int) -> Recording:
    input_ids = torch.ones(1, num_tokens)
    with Recorder() as recorder:
        logits = forward(input_ids)
    return Recording({"input_ids": input_ids, "use_cache": True}, recorder.calls, logits)


def transcribed(forward: Forward) -> Play:
    return transcribe(recorded(forward, 5), recorded(forward, 7))


def by_shape(x: torch.Tensor) -> torch.Tensor:
    return x.expand(3, x.shape[1]).reshape(1, 3 * x.shape[1])[:, : x.shape[1]]


def by_several_results(x: torch.Tensor) -> torch.Tensor:
    first, second = torch.split_with_sizes(torch.cat([x, x * 2], -1), [x.shape[1], x.shape[1]], dim=-1)
    best, _ = torch.max(second, -1, keepdim=True)
    return first + second + best


def by_weight(x: torch.Tensor) -> torch.Tensor:
    return x[..., None] + WEIGHT[:, 0]


def in_place(x: torch.Tensor) -> torch.Tensor:
    y = x.clone()
    y += 1
    y[:, 0] = float("-inf")
    return y.T


@pytest.mark.parametrize("forward", [by_shape, by_several_results, by_weight, in_place])
@pytest.mark.parametrize("num_tokens", [1, 5, 23])
def test_plays_what_was_recorded_for_any_number_of_tokens(forward: Forward, num_tokens: int) -> None:
    x = torch.rand(1, num_tokens)
    assert torch.equal(transcribed(forward)(input_ids=x, use_cache=True), forward(x))


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (lambda x: x + x if x.shape[1] > 5 else x * 2, "decides what is called"),
        (lambda x: x + x + x if x.shape[1] > 5 else x + x, "decides what is called"),
        (lambda x: x + x.shape[1] ** 2, "in another way"),
        (lambda x: x * (1 / x.shape[1]), "float depends"),
        (lambda x: x.sum(tuple(range(x.shape[1] // 3))), "decides how long"),
        (lambda x: torch.cat(x.unbind(1)), "decides how many results"),
        (lambda x: x + UNRECORDED[x.shape[1]], "somewhere else"),
    ],
)
def test_what_depends_on_anything_but_the_number_of_tokens_is_refused(forward: Forward, reason: str) -> None:
    with pytest.raises(NotReplayable, match=reason):
        transcribed(forward)


def test_tensors_are_let_go_when_they_are_not_needed_any_more() -> None:
    alive: list[weakref.ref[torch.Tensor]] = []
    counts: list[int] = []

    def forward(x: torch.Tensor) -> torch.Tensor:
        for _ in range(4):
            x = note(x + 1)
        return x

    def note(x: torch.Tensor) -> torch.Tensor:
        if torch.overrides.has_torch_function_unary(x):
            return torch.overrides.handle_torch_function(note, (x,), x)
        result = x.clone()
        alive.append(weakref.ref(result))
        gc.collect()
        counts.append(sum(one() is not None for one in alive))
        return result

    play = transcribed(forward)
    alive.clear()
    counts.clear()
    play(input_ids=torch.ones(1, 3))
    assert max(counts) <= 2

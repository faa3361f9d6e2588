from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from shared.domain.sampling import SamplingParams
from tests.unit.workers.engine.attention.test_slots import DIM, HEADS, KV_HEADS, naive_attention
from workers.engine.attention import paged as paged_attention_module
from workers.engine.attention.paged import paged_attention
from workers.engine.attention.paged_reference import torch_varlen_attn
from workers.engine.attention.slots import UnsupportedModel
from workers.engine.cache.paged_cache import PagedCache, PagedLayer
from workers.engine.placement.page_pool import PAGE
from workers.engine.scheduling.kv_budget import KVBudget
from workers.engine.scheduling.plan import Plan, Row
from workers.engine.scheduling.sequence import Sequence

CPU = torch.device("cpu")


def attend(layer: PagedLayer, query: torch.Tensor, **options: Any) -> torch.Tensor:
    return paged_attention(nn.Identity(), query, layer, layer, None, **options)[0]


def written(
    counts: tuple[int, ...], device: torch.device = CPU, dtype: torch.dtype = torch.float32, dim: int = DIM
) -> tuple[PagedCache, PagedLayer, list[torch.Tensor]]:
    """A layer with a sequence of each length, and their queries, keys and values [1, heads, length, dim]."""
    torch.manual_seed(0)
    shapes = ((HEADS, dim), (KV_HEADS, dim), (KV_HEADS, dim))
    states = [torch.randn(1, heads, sum(counts), dim, dtype=dtype).to(device) for heads, dim in shapes]
    cache = PagedCache(KVBudget(2 * PAGE, page=PAGE))
    rows = [
        Row(Sequence("r", 0, SamplingParams(max_tokens=1, seed=0), [0] * count, count), slot, 0, count)
        for slot, count in enumerate(counts)
    ]
    cache.begin(Plan(tuple(rows)), device)
    layer, _ = cache.update(states[1], states[2], 0)
    return cache, layer, states


def decoded(
    cache: PagedCache, layer: PagedLayer, states: list[torch.Tensor], counts: tuple[int, ...]
) -> None:
    """Writes the last token of each sequence again, as rows of one token."""
    rows = [
        Row(Sequence("r", 0, SamplingParams(max_tokens=1, seed=0), [0] * count, count), slot, count - 1, 1)
        for slot, count in enumerate(counts)
    ]
    cache.begin(Plan(tuple(rows)), layer.device)
    ends = torch.tensor(counts, device=layer.device).cumsum(0) - 1
    cache.update(states[1][:, :, ends], states[2][:, :, ends], 0)


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "window": {"sliding_window": 7},
    "narrow": {"sliding_window": 1},
    "softcap": {"softcap": 0.5},
    "sinks": {"s_aux": torch.linspace(-1, 2, HEADS)},
    "both": {"sliding_window": 5, "s_aux": torch.linspace(-1, 2, HEADS)},
}


def expected(states: list[torch.Tensor], counts: tuple[int, ...], options: dict[str, Any]) -> torch.Tensor:
    named = {"window": "sliding_window", "softcap": "softcap", "sinks": "s_aux"}
    arguments: dict[str, Any] = {name: options.get(option) for name, option in named.items()}
    rows = zip(*(torch.split(x, list(counts), 2) for x in states), strict=True)
    return torch.cat([naive_attention(query, keys, values, **arguments) for query, keys, values in rows], 1)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_each_row_sees_its_own_keys_within_its_window(options: dict[str, Any]) -> None:
    counts = (5, PAGE + 20, 1)
    cache, layer, states = written(counts)
    wanted = expected(states, counts, options)
    torch.testing.assert_close(attend(layer, states[0], **options), wanted)
    decoded(cache, layer, states, counts)
    last = torch.tensor(counts).cumsum(0) - 1
    torch.testing.assert_close(attend(layer, states[0][:, :, last], **options), wanted[:, last])


def test_on_a_cpu_plain_torch_attends() -> None:
    _, layer, states = written((3,), dtype=torch.bfloat16)
    attend(layer, states[0])
    assert not layer.is_flash


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "softcap"])
@pytest.mark.parametrize("counts", [(1, 1), (5, 300)], ids=["decode", "chunks"])
def test_torchs_kernel_accepts_the_arguments(
    counts: tuple[int, ...], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checks only shapes, on the meta device. Equal results are tested on a GPU."""
    monkeypatch.setattr(paged_attention_module, "_is_served", lambda _query, _layer: True)
    meta = torch.device("meta")
    options = {
        key: value.to(meta) if isinstance(value, torch.Tensor) else value
        for key, value in OPTIONS[name].items()
    }
    _, layer, states = written(counts, meta, torch.bfloat16)
    attended = attend(layer, states[0], **options)
    assert (attended.shape, attended.dtype) == ((1, sum(counts), HEADS, DIM), torch.bfloat16)
    assert layer.is_flash


def test_the_window_is_converted_for_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the row's own key, and with one split of the keys, because more are computed wrongly."""
    options_seen: list[dict[str, Any]] = []

    def kernel(*args: Any, **options: Any) -> Any:
        options_seen.append(options)
        return torch_varlen_attn(*args, **options)

    monkeypatch.setattr(paged_attention_module, "_is_served", lambda _query, _layer: True)
    monkeypatch.setattr(paged_attention_module, "varlen_attn", kernel)
    for counts in ((5, 2), (1, 1)):
        _, layer, states = written(counts)
        for options in OPTIONS.values():
            if "softcap" not in options:
                wanted = expected(states, counts, options)
                torch.testing.assert_close(attend(layer, states[0], **options), wanted)
    chunks, decode = options_seen[:5], options_seen[5:]
    assert [each["window_size"] for each in chunks] == [(-1, 0), (6, 0), (0, 0), (-1, 0), (4, 0)]
    assert [each["window_size"] for each in decode] == [(-1, -1), (6, 0), (0, 0), (-1, 0), (4, 0)]
    assert {each["num_splits"] for each in options_seen} == {1}


def test_a_mask_or_an_unknown_option_is_refused() -> None:
    _, layer, states = written((3,))
    with pytest.raises(UnsupportedModel, match="its own mask"):
        paged_attention(nn.Identity(), states[0], layer, layer, torch.zeros(3, 3))
    with pytest.raises(UnsupportedModel, match="position_bias"):
        attend(layer, states[0], position_bias=torch.zeros(1))
    with pytest.raises(UnsupportedModel, match="after they were cached"):
        paged_attention(nn.Identity(), states[0], states[1], states[2], None)  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.parametrize("dim", [64, 128, 256])
@pytest.mark.parametrize("name", OPTIONS)
def test_on_a_gpu_each_row_sees_its_own_keys_within_its_window(
    name: str, dim: int, cuda: torch.device
) -> None:
    counts = (5, PAGE + 20, 1, 130)
    cache, layer, states = written(counts, cuda, torch.bfloat16, dim)
    query, keys, values = (x.float().cpu() for x in states)
    # The textbook formula divides by the root of another dim.
    wanted = expected([query * (DIM / dim) ** 0.5, keys, values], counts, OPTIONS[name])
    options = {
        key: value.to(cuda) if isinstance(value, torch.Tensor) else value
        for key, value in OPTIONS[name].items()
    }
    found = attend(layer, states[0], **options).float().cpu()
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.02)
    decoded(cache, layer, states, counts)
    last = torch.tensor(counts).cumsum(0) - 1
    found = attend(layer, states[0][:, :, last.to(cuda)], **options).float().cpu()
    torch.testing.assert_close(found, wanted[:, last], rtol=0.02, atol=0.02)
    assert layer.is_flash == (name != "softcap")

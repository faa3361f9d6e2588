from __future__ import annotations

from pathlib import Path

import pytest
import torch

from workers.engine.loading import free_memory
from workers.engine.loading.free_memory import free_bytes, kv_tokens

CPU = torch.device("cpu")


def group(path: Path, names: tuple[str, str, str], limit: str, used: int, inactive: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    (path / names[0]).write_text(f"{limit}\n")
    (path / names[1]).write_text(f"{used}\n")
    (path / "memory.stat").write_text(f"anon 5\n{names[2]} {inactive}\n")


def left(root: Path, membership: str) -> list[int]:
    (root / "membership").write_text(membership)
    return list(free_memory._left_in_groups(root, root / "membership"))


def test_groups_around_a_group_limit_it_too(tmp_path: Path) -> None:
    group(tmp_path / "a/b", free_memory._VERSION_2, "1000", used=900, inactive=50)
    group(tmp_path / "a", free_memory._VERSION_2, "300", used=290, inactive=0)
    assert left(tmp_path, "0::/a/b\n") == [150, 10]


def test_first_version_and_missing_groups(tmp_path: Path) -> None:
    group(tmp_path / "memory/x", free_memory._VERSION_1, "500", used=600, inactive=10)
    assert left(tmp_path, "7:cpu,cpuacct:/x\n4:memory:/x/y\n0::/\n") == [0]


def test_no_limit_is_none(tmp_path: Path) -> None:
    group(tmp_path, free_memory._VERSION_2, "max", used=1, inactive=0)
    assert left(tmp_path, "0::/\n") == []


def test_tokens_are_a_share_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_bytes(CPU) > 1 << 20
    monkeypatch.setattr(free_memory, "free_bytes", lambda _device: 1000)
    assert kv_tokens({CPU: 10}) == 60
    # Layers on two devices: the one that is full first counts.
    assert kv_tokens({CPU: 10, torch.device("meta"): 20}) == 30


def test_what_torch_keeps_on_a_gpu_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"mem_get_info": (500, 9000), "memory_reserved": 300, "memory_allocated": 100}
    for name, value in told.items():
        monkeypatch.setattr(torch.cuda, name, {torch.device("cuda:1"): value}.__getitem__)
    assert free_bytes(torch.device("cuda:1")) == 700

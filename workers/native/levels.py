"""Levels: the kinds of CPUs for which an image contains the C operations, and which of them runs here."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

_V3 = frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_VNNI = _V4 | {"avx512_vnni"}
_BF16 = _VNNI | {"avx512_bf16"}


@dataclass(frozen=True, slots=True)
class Level:
    """A set of instructions: the compiler's flags, and the CPU's flags in /proc/cpuinfo that it needs."""

    name: str
    flags: tuple[str, ...]
    needs: frozenset[str]


#: By machine, the fastest first. Only x86-64 so far: the image of another one contains no library, and uses torch.
#: A file for a CPU that lacks an instruction would end the process, so `needs` names all
#: that the flags allow (https://gitlab.com/x86-psABIs/x86-64-ABI).
LEVELS: dict[str, tuple[Level, ...]] = {
    "x86_64": (
        Level(
            "amx",
            ("-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16", "-mamx-tile", "-mamx-bf16", "-mamx-int8"),
            _BF16 | {"amx_tile", "amx_bf16", "amx_int8"},
        ),
        Level("avx512-bf16", ("-march=x86-64-v4", "-mavx512vnni", "-mavx512bf16"), _BF16),
        Level("avx512-vnni", ("-march=x86-64-v4", "-mavx512vnni"), _VNNI),
        Level("avx512", ("-march=x86-64-v4",), _V4),
        Level("avx2", ("-march=x86-64-v3",), _V3),
    ),
}


def best_level(machine: str, cpu_flags: Collection[str]) -> Level | None:
    """The fastest level whose instructions this CPU has. None if it has those of no level."""
    return next((level for level in LEVELS.get(machine, ()) if level.needs <= set(cpu_flags)), None)

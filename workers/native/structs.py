"""Arguments of the operations, with the layout of the structs in ops.c, which explains each field."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure, c_double, c_int64, c_void_p, sizeof

from shared.errors import BatonError


class NormArguments(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("states", "added", "weight", "normed")),
        *((name, c_int64) for name in ("rows", "width", "threads")),
        ("epsilon", c_double),
    ]


class GateArguments(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("gated", "product")),
        *((name, c_int64) for name in ("rows", "width", "threads")),
    ]


class RotationArguments(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("joined", "cosine", "sine", "query_norm", "key_norm", "queries")),
        *((name, c_void_p) for name in ("keys", "values", "places", "positions")),
        *((name, c_int64) for name in ("first", "tokens", "heads", "kv_heads", "dim", "length", "threads")),
        ("epsilon", c_double),
    ]


class AttentionArguments(Structure):
    _fields_ = [
        ("queries", c_void_p),
        *((name, c_int64) for name in ("query_head_stride", "query_token_stride")),
        *((name, c_void_p) for name in ("mixed", "keys", "values", "rows")),
        *((name, c_int64) for name in ("num_rows", "heads", "kv_heads", "dim", "length", "window")),
        ("workspace", c_void_p),
        *((name, c_int64) for name in ("workspace_stride", "threads")),
        ("scaling", c_double),
    ]


class ProductArguments(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("x", "weight", "bias", "y")),
        *((name, c_int64) for name in ("rows", "width", "outputs", "threads")),
    ]


class Int8ProductArguments(ProductArguments):
    _fields_ = [
        *((name, c_void_p) for name in ("inputs", "row_scales", "scales", "surplus")),
        ("is_float32", c_int64),
    ]


class DrawingArguments(Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("logits", "masks", "is_barred", "temperatures", "min_p", "top_k")),
        *((name, c_void_p) for name in ("top_p", "uniform", "drawn", "workspace")),
        *((name, c_int64) for name in ("rows", "width", "mask_width", "bits", "threads")),
    ]


#: In the order in which ops.c lists their layouts.
STRUCTS: tuple[type[Structure], ...] = (
    NormArguments,
    GateArguments,
    RotationArguments,
    AttentionArguments,
    ProductArguments,
    Int8ProductArguments,
    DrawingArguments,
)


class WrongLayout(BatonError):
    """Raised when a library's structs are not those of this module."""


def check_layouts(found: Sequence[int]) -> None:
    """Compare with what ops.c reports: the size of each struct, the offsets of its fields, and -1.

    Raises: WrongLayout.
    """
    expected = [_layout(struct) for struct in STRUCTS]
    start = 0
    for struct, layout in zip(STRUCTS, expected, strict=True):
        if list(found[start : start + len(layout)]) != layout:
            raise WrongLayout(f"{struct.__name__} in workers/native/structs.py is not laid out as in ops.c")
        start += len(layout)
    if start != len(found):
        raise WrongLayout("ops.c has more structs than workers/native/structs.py")


def _layout(struct: type[Structure]) -> list[int]:
    return [sizeof(struct), *(getattr(struct, name).offset for name in _field_names(struct)), -1]


def _field_names(struct: type[Structure]) -> list[str]:
    """The names of all fields, those of the base class first."""
    fields = (field for base in reversed(struct.__mro__) for field in vars(base).get("_fields_", ()))
    return [field[0] for field in fields]

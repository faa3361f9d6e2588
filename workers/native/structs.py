"""Arguments of the operations, with the layout of the structs in ops.c, which explains each field."""

from __future__ import annotations

from ctypes import Structure, c_double, c_int64, c_void_p


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

"""Operations of a decoder layer other than its matrix products, on a CPU, by ops.c.

An operation is created once with its constants, and called with the tensors of each step. They must be
contiguous and of the operation's dtype.
"""

from __future__ import annotations

import ctypes
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workers.native.build import find_native
from workers.native.recording import Recording, perform
from workers.native.scratch import Scratch
from workers.native.structs import (
    AttentionArguments,
    GateArguments,
    NormArguments,
    RotationArguments,
    WrongLayout,
    check_layouts,
)

logger = logging.getLogger(__name__)

#: Numbers per vector. Widths are multiples of this.
LANES = 16
_SUFFIX = {torch.float32: "float32", torch.bfloat16: "bfloat16"}


@dataclass(frozen=True, slots=True)
class NativeLibrary:
    """The operations built for this machine."""

    library: ctypes.CDLL

    def function(self, name: str, dtype: torch.dtype) -> Callable[[Any], object]:
        function: Callable[[Any], object] = getattr(self.library, f"{name}_{_SUFFIX[dtype]}")
        return function

    def workspace_size(self, length: int) -> int:
        """Number of float32 values that each thread needs to attend to `length` keys."""
        count: int = self.library.workspace_size(length)
        return count


@functools.cache
def native_library() -> NativeLibrary | None:
    """The library of this image, or one built at the first call on this machine. None if it cannot be used."""
    path = find_native()
    if path is None:
        return None
    try:
        return load_library(path)
    except (OSError, AttributeError, WrongLayout) as error:  # it cannot be loaded, or is of other sources
        logger.warning("%s cannot be loaded, using torch instead: %s", path, error)
        return None


def load_library(path: Path) -> NativeLibrary:
    """Raises OSError, AttributeError and WrongLayout."""
    library = ctypes.CDLL(str(path))
    library.workspace_size.restype = ctypes.c_int64
    library.workspace_size.argtypes = [ctypes.c_int64]
    library.num_helpers.restype = ctypes.c_int64
    library.has_products.restype = library.has_int8_products.restype = ctypes.c_int64
    library.run_calls.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    library.use_helpers.argtypes = [ctypes.c_int64]
    library.num_layout_values.restype = ctypes.c_int64
    library.layouts.restype = ctypes.POINTER(ctypes.c_int64)
    check_layouts(library.layouts()[: library.num_layout_values()])
    return NativeLibrary(library)


def has_operations(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there are operations for this device and dtype."""
    return device.type == "cpu" and dtype in _SUFFIX and native_library() is not None


def has_products(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether Product supports this dtype here: bfloat16, on a CPU with instructions for it."""
    return (
        dtype == torch.bfloat16
        and has_operations(device, dtype)
        and bool(loaded_library().library.has_products())
    )


def has_int8_products(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether Int8Product supports inputs of this dtype here: on a CPU with 8-bit dot product instructions."""
    return has_operations(device, dtype) and bool(loaded_library().library.has_int8_products())


def share_with_helpers(number: int) -> None:
    """Share operations created from now on with this many threads of our own, which torch cannot use.

    With 0, they are shared with torch's threads.
    """
    loaded_library().library.use_helpers(number)


def compute_threads() -> int:
    """The number of threads of operations that are created now."""
    library = native_library()
    num_helpers = 0 if library is None else int(library.library.num_helpers())
    return num_helpers + 1 if num_helpers else torch.get_num_threads()


def new_recording() -> Recording:
    return Recording(loaded_library().library.run_calls)


def loaded_library() -> NativeLibrary:
    """The library, which must exist."""
    library = native_library()
    assert library is not None
    return library


class RMSNorm:
    """RMSNorm (https://arxiv.org/abs/1910.07467) of a sum. `weight` is [width]."""

    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        self._weight = weight
        self._arguments = NormArguments(
            weight=weight.data_ptr(),
            width=weight.shape[0],
            epsilon=epsilon,
            threads=compute_threads(),
        )
        self._call = loaded_library().function("rms_norm", weight.dtype)

    def __call__(self, states: torch.Tensor, added: torch.Tensor | None, normed: torch.Tensor) -> None:
        """Set `states` to states + added, and `normed` to its norm. All are [rows, width]."""
        arguments = self._arguments
        arguments.states = states.data_ptr()
        arguments.added = None if added is None else added.data_ptr()
        arguments.normed = normed.data_ptr()
        arguments.rows = states.shape[0]
        perform(self._call, arguments)


class SiluGate:
    """SiLU of the gates times the up projections (SwiGLU, https://arxiv.org/abs/2002.05202)."""

    def __init__(self, width: int, dtype: torch.dtype) -> None:
        self._arguments = GateArguments(width=width, threads=compute_threads())
        self._call = loaded_library().function("silu_and_multiply", dtype)

    def __call__(self, gated: torch.Tensor, product: torch.Tensor) -> None:
        """Write to `product` [rows, width] from `gated` [rows, 2 x width], which has the gates first."""
        arguments = self._arguments
        arguments.gated = gated.data_ptr()
        arguments.product = product.data_ptr()
        arguments.rows = product.shape[0]
        perform(self._call, arguments)


@dataclass(frozen=True, slots=True)
class HeadShape:
    """The heads of an attention layer. `dim` is a multiple of LANES."""

    num_heads: int
    num_kv_heads: int
    dim: int


@dataclass(frozen=True, slots=True)
class HeadNorms:
    """Weights [dim] of the RMSNorms of each query and key."""

    query: torch.Tensor
    key: torch.Tensor
    epsilon: float


class Rotation:
    """Applies rotary embeddings (https://arxiv.org/abs/2104.09864) to queries and keys, and stores keys and
    values.

    Queries and keys are normalized first if there are norms. `dim` must be a multiple of 32.
    """

    def __init__(self, shape: HeadShape, dtype: torch.dtype, norms: HeadNorms | None = None) -> None:
        self._norms = norms
        self._arguments = RotationArguments(
            query_norm=norms and norms.query.data_ptr(),
            key_norm=norms and norms.key.data_ptr(),
            epsilon=norms.epsilon if norms else 0,
            heads=shape.num_heads,
            kv_heads=shape.num_kv_heads,
            dim=shape.dim,
            threads=compute_threads(),
        )
        self._call = loaded_library().function("rotate_and_store", dtype)

    def __call__(
        self,
        joined: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        queries: torch.Tensor,
        cache: tuple[torch.Tensor, torch.Tensor],
        first: int,
        slot_indices: torch.Tensor,
        positions: torch.Tensor,
    ) -> None:
        """Rotate and store the tokens from index `first` on, as many as `slot_indices` has.

        joined: [tokens, (heads + 2 x kv heads) x dim]. angles: cosines and sines, [tokens, dim] each.
        queries: written, [tokens, heads x dim]. cache: keys and values, [slots, kv heads, length, dim] each;
        written at `slot_indices` and `positions`, int64 [number] each.
        """
        arguments = self._arguments
        arguments.joined = joined.data_ptr()
        arguments.cosine, arguments.sine = angles[0].data_ptr(), angles[1].data_ptr()
        arguments.queries = queries.data_ptr()
        arguments.keys, arguments.values = cache[0].data_ptr(), cache[1].data_ptr()
        arguments.places, arguments.positions = slot_indices.data_ptr(), positions.data_ptr()
        arguments.first, arguments.tokens = first, slot_indices.shape[0]
        arguments.length = cache[0].shape[2]
        perform(self._call, arguments)


class SlotAttention:
    """Causal attention of each query over the keys and values in its sequence's slot.

    `window`: number of keys that a query sees, including its own; None: all. `memory`: buffers for scores,
    shared with operations that run before or after this one; None: allocated at each call.
    """

    def __init__(
        self,
        shape: HeadShape,
        dtype: torch.dtype,
        scaling: float,
        window: int | None = None,
        memory: Scratch | None = None,
    ) -> None:
        self._library = loaded_library()
        self._shape = shape
        self._threads = compute_threads()
        self._arguments = AttentionArguments(
            heads=shape.num_heads,
            kv_heads=shape.num_kv_heads,
            dim=shape.dim,
            scaling=scaling,
            window=window or 0,
            threads=self._threads,
        )
        self._memory = memory
        self._call = self._library.function("attend", dtype)

    def __call__(
        self,
        queries: torch.Tensor,
        cache: tuple[torch.Tensor, torch.Tensor],
        rows: torch.Tensor,
        mixed: torch.Tensor,
    ) -> None:
        """Attend and write the rows' tokens of `mixed` [tokens, heads, dim].

        queries: [heads, tokens, dim] in any order with contiguous vectors. cache: keys and values, [slots, kv
        heads, length, dim] each. rows: int64 [n, 4] with first token, number of tokens, slot index and first
        position.
        """
        arguments = self._arguments
        arguments.queries = queries.data_ptr()
        arguments.query_head_stride, arguments.query_token_stride, _ = queries.stride()
        arguments.keys, arguments.values = cache[0].data_ptr(), cache[1].data_ptr()
        arguments.rows, arguments.num_rows = rows.data_ptr(), rows.shape[0]
        arguments.mixed = mixed.data_ptr()
        arguments.length = length = cache[0].shape[2]
        size = self._library.workspace_size(length)
        workspace = (
            torch.empty(self._threads, size)
            if self._memory is None
            else self._memory.take("scores", self._threads, size, torch.float32)
        )
        arguments.workspace, arguments.workspace_stride = workspace.data_ptr(), size
        perform(self._call, arguments, workspace)

"""GGUFHeader: reads the header of a GGUF file, which lies before its weights.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shared.errors import BatonError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
#: Metadata types: scalars as `struct` formats, strings and arrays.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_DEFAULT_ALIGNMENT = 32
_MAX_ALIGNMENT = 1 << 16
#: Arrays of arrays are not nested more deeply.
_MAX_DEPTH = 8
_MAX_DIMENSIONS = 4
#: Tensor type -> (weights in a block, bytes in a block), see `enum ggml_type`.
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    29: (256, 56), 30: (1, 2),
}  # fmt: skip

#: A scalar, a string, or the number of items in an array.
Value = int | float | bool | str


def find_gguf(path: Path) -> Path | None:
    """Return the GGUF file for a model's path: the file itself, or the only one in a directory without safetensors."""
    if not path.is_dir():
        return path if path.suffix == ".gguf" else None
    files = list(path.glob("*.gguf"))
    return files[0] if len(files) == 1 and not any(path.glob("*.safetensors")) else None


class BrokenGGUF(BatonError):
    """Raised when a file is not a complete GGUF file, or has weights of an unknown type."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Location and size of a tensor."""

    name: str
    num_weights: int
    #: Offsets in the file of the first byte and of the byte after the last.
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """Metadata and tensors of a file."""

    metadata: dict[str, Value]
    tensors: tuple[TensorInfo, ...]
    #: Bytes before the weights.
    size: int

    @classmethod
    def read(cls, path: Path) -> GGUFHeader:
        """Read a file. Raises BrokenGGUF if it is damaged, incomplete or cannot be opened."""
        try:
            with path.open("rb") as file:
                header = _read(file)
        except (struct.error, UnicodeDecodeError, KeyError, OverflowError) as error:
            raise BrokenGGUF(f"{path} is damaged: its header cannot be read") from error
        except OSError as error:
            raise BrokenGGUF(f"{path} cannot be read: {error.strerror}") from error
        if not header.tensors:
            raise BrokenGGUF(f"{path} has no tensors")
        missing = max(tensor.end for tensor in header.tensors) - path.stat().st_size
        if missing > 0:
            raise BrokenGGUF(f"{path} is cut off: {missing} bytes are missing")
        return header

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    @property
    def num_weights(self) -> int:
        return sum(tensor.num_weights for tensor in self.tensors)


def _read(file: BinaryIO) -> GGUFHeader:
    magic, version, num_tensors, num_fields = file.read(4), *_unpack(file, "IQQ")
    if magic != _MAGIC or version not in _VERSIONS:
        raise BrokenGGUF(f"{file.name} is not a GGUF file of version 2 or 3")
    metadata = {_string(file): _value(file, *_unpack(file, "I")) for _ in range(_counted(num_fields, file))}
    infos = [_tensor(file) for _ in range(_counted(num_tensors, file))]
    size = file.tell()
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or not 1 <= alignment <= _MAX_ALIGNMENT:
        raise BrokenGGUF(f"{file.name} is damaged: general.alignment is {alignment!r}")
    begin = -(-size // alignment) * alignment
    tensors = [
        TensorInfo(name, num, begin + offset, begin + offset + length) for name, num, offset, length in infos
    ]
    return GGUFHeader(metadata, tuple(tensors), size)


def _tensor(file: BinaryIO) -> tuple[str, int, int, int]:
    """Return name, number of weights, offset and size in bytes."""
    name = _string(file)
    (num_dimensions,) = _unpack(file, "I")
    if num_dimensions > _MAX_DIMENSIONS:
        raise BrokenGGUF(f"{file.name} is damaged: a tensor has {num_dimensions} dimensions")
    *shape, kind, offset = _unpack(file, "Q" * num_dimensions + "IQ")
    if kind not in _BLOCKS:
        raise BrokenGGUF(f"{file.name}: tensor {name} has the unknown type {kind}")
    weights, num_bytes = _BLOCKS[kind]
    num = math.prod(shape)
    return name, num, offset, num // weights * num_bytes


def _value(file: BinaryIO, kind: int, depth: int = 0) -> Value:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        if depth == _MAX_DEPTH:
            raise BrokenGGUF(f"{file.name} is damaged: arrays are nested more than {_MAX_DEPTH} deep")
        return _skip_array(file, depth + 1)
    value: Value = _unpack(file, _SCALARS[kind])[0]
    return value


def _skip_array(file: BinaryIO, depth: int) -> int:
    """Return the number of items."""
    kind, num = _unpack(file, "IQ")
    if kind in (_STRING, _ARRAY):
        for _ in range(_counted(num, file)):
            _value(file, kind, depth)
    else:
        file.seek(_counted(num * struct.calcsize(_SCALARS[kind]), file), 1)
    return int(num)


def _string(file: BinaryIO) -> str:
    (length,) = _unpack(file, "Q")
    return file.read(_counted(length, file)).decode()


def _unpack(file: BinaryIO, form: str) -> tuple[int, ...]:
    values: tuple[int, ...] = struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))
    return values


def _counted(num: int, file: BinaryIO) -> int:
    """Return a number of bytes, or of items of at least one byte. Raises OverflowError if the file has fewer left."""
    if num > os.fstat(file.fileno()).st_size - file.tell():
        raise OverflowError(num)
    return num

"""GGUFHeader: what a GGUF file says before its weights.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from shared.errors import BatonError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
#: Metadata types: the scalar ones as `struct` has them; string and array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_DEFAULT_ALIGNMENT = 32
#: Longer is no name, template or list, but a damaged length.
_MAX_ITEMS = 1 << 28
_MAX_DIMENSIONS = 4
#: Tensor type -> weights of a block, bytes of a block (`enum ggml_type`).
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136),
    29: (256, 56), 30: (1, 2),
}  # fmt: skip

#: A scalar, a string, or how many items an array has.
Value = int | float | bool | str


def find_gguf(path: Path) -> Path | None:
    """The GGUF file that a model's path means: itself, or the only one of a directory without safetensors."""
    if not path.is_dir():
        return path if path.suffix == ".gguf" else None
    files = list(path.glob("*.gguf"))
    return files[0] if len(files) == 1 and not any(path.glob("*.safetensors")) else None


class BrokenGGUF(BatonError):
    """Raised when a file is no whole GGUF file, or holds weights of a type that is not known."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies, and how large it is."""

    name: str
    num_weights: int
    #: First byte and the one after the last, in the file.
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """Metadata and tensors of one file."""

    metadata: dict[str, Value]
    tensors: tuple[TensorInfo, ...]
    #: Bytes before the weights.
    size: int

    @classmethod
    def read(cls, path: Path) -> GGUFHeader:
        """Raises BrokenGGUF when the file is damaged or cut off, OSError when it cannot be read."""
        with path.open("rb") as file:
            try:
                header = _read(file)
            except (struct.error, UnicodeDecodeError, KeyError, OverflowError, MemoryError) as error:
                raise BrokenGGUF(f"{path} is damaged: its head cannot be read") from error
        missing = max((tensor.end for tensor in header.tensors), default=0) - path.stat().st_size
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
        raise BrokenGGUF(f"{file.name} is no GGUF file of version 2 or 3")
    metadata = {_string(file): _value(file, *_unpack(file, "I")) for _ in range(_counted(num_fields))}
    infos = [_tensor(file) for _ in range(_counted(num_tensors))]
    size = file.tell()
    alignment = int(metadata.get("general.alignment", _DEFAULT_ALIGNMENT))
    begin = -(-size // alignment) * alignment
    tensors = [
        TensorInfo(name, num, begin + offset, begin + offset + length) for name, num, offset, length in infos
    ]
    return GGUFHeader(metadata, tuple(tensors), size)


def _tensor(file: BinaryIO) -> tuple[str, int, int, int]:
    """Name, number of weights, offset and bytes."""
    name = _string(file)
    (num_dimensions,) = _unpack(file, "I")
    if num_dimensions > _MAX_DIMENSIONS:
        raise BrokenGGUF(f"{file.name} is damaged: a tensor has {num_dimensions} dimensions")
    *shape, kind, offset = _unpack(file, "Q" * num_dimensions + "IQ")
    if kind not in _BLOCKS:
        raise BrokenGGUF(f"{file.name} has {name} as a type of weights that is not known: {kind}")
    weights, num_bytes = _BLOCKS[kind]
    num = math.prod(shape)
    return name, num, offset, num // weights * num_bytes


def _value(file: BinaryIO, kind: int) -> Value:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        return _skip_array(file)
    value: Value = _unpack(file, _SCALARS[kind])[0]
    return value


def _skip_array(file: BinaryIO) -> int:
    """How many items it has."""
    kind, num = _unpack(file, "IQ")
    if kind in (_STRING, _ARRAY):
        for _ in range(_counted(num)):
            _value(file, kind)
    else:
        file.seek(_counted(num) * struct.calcsize(_SCALARS[kind]), 1)
    return int(num)


def _string(file: BinaryIO) -> str:
    (length,) = _unpack(file, "Q")
    content = file.read(_counted(length))
    if len(content) < length:
        raise struct.error("the file ends within a string")
    return content.decode()


def _unpack(file: BinaryIO, form: str) -> tuple[int, ...]:
    values: tuple[int, ...] = struct.unpack("<" + form, file.read(struct.calcsize("<" + form)))
    return values


def _counted(num: int) -> int:
    if num > _MAX_ITEMS:
        raise OverflowError(num)
    return num

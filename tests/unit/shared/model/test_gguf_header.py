from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

from shared.model.gguf_header import BrokenGGUF, GGUFHeader


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "m.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_rope_freq_base(1e4)
    writer.add_token_list(["a", "Ġb", "ü"])
    writer.add_token_scores([0.5, 1.5, 2.5])
    writer.add_chat_template("{{ 'x' }}")
    writer.add_tensor("token_embd.weight", np.ones((3, 32), dtype=np.float32))
    packed = quantize(np.ones((2, 64), dtype=np.float32), GGMLQuantizationType.Q8_0)
    writer.add_tensor("blk.0.w", packed, raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_metadata_and_tensors_are_read(path: Path) -> None:
    header = GGUFHeader.read(path)
    assert header.architecture == "llama"
    assert header.metadata["llama.context_length"] == 512
    assert header.metadata["tokenizer.ggml.tokens"] == 3  # how many
    assert header.metadata["tokenizer.chat_template"] == "{{ 'x' }}"
    assert [(tensor.name, tensor.num_weights) for tensor in header.tensors] == [
        ("token_embd.weight", 96),
        ("blk.0.w", 128),
    ]
    assert [tensor.end - tensor.start for tensor in header.tensors] == [96 * 4, 4 * 34]
    assert header.num_weights == 224


def test_a_file_that_is_cut_off_anywhere_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    end = GGUFHeader.read(path).tensors[-1].end
    for length in [*range(0, end, 7), end - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(BrokenGGUF):
            GGUFHeader.read(path)
    path.write_bytes(whole[:end])
    GGUFHeader.read(path)


@pytest.mark.parametrize(
    ("offset", "damage", "message"),
    [
        (0, b"GGML", "not a GGUF file"),
        (4, struct.pack("<I", 1), "not a GGUF file"),
        (8, struct.pack("<Q", 1 << 60), "damaged"),
        (16, struct.pack("<Q", 1 << 60), "damaged"),
        (24, struct.pack("<Q", 1 << 40), "damaged"),
    ],
)
def test_a_damaged_header_is_refused(path: Path, offset: int, damage: bytes, message: str) -> None:
    content = bytearray(path.read_bytes())
    content[offset : offset + len(damage)] = damage
    path.write_bytes(content)
    with pytest.raises(BrokenGGUF, match=message):
        GGUFHeader.read(path)


def test_weights_of_an_unknown_type_are_refused(path: Path) -> None:
    content = path.read_bytes()
    offset = content.index(b"blk.0.w") + len("blk.0.w") + 4 + 2 * 8
    path.write_bytes(content[:offset] + struct.pack("<I", 99) + content[offset + 4 :])
    with pytest.raises(BrokenGGUF, match=r"blk\.0\.w.*99"):
        GGUFHeader.read(path)


def _header(*fields: bytes, num_tensors: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, num_tensors, len(fields)) + b"".join(fields)


def _field(name: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_header(), "has no tensors"),
        (_header(_field("general.alignment", 4, struct.pack("<I", 0))), "alignment is 0"),
        (_header(_field("general.alignment", 12, struct.pack("<d", float("nan")))), "alignment is nan"),
        (_header(_field("general.alignment", 8, struct.pack("<Q", 1) + b"x")), "alignment is 'x'"),
        (_header(_field("a", 9, struct.pack("<IQ", 9, 1) * 2000)), "nested"),
        (_header(_field("a", 9, struct.pack("<IQ", 10, 1 << 62))), "cannot be read"),
        (_header(_field("a", 9, struct.pack("<IQ", 8, 1 << 27))), "cannot be read"),
        (_header(_field("a", 99, b"")), "cannot be read"),
    ],
)
def test_bad_values_are_refused(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(BrokenGGUF, match=message):
        GGUFHeader.read(path)


def test_random_damage_raises_one_kind_of_error(path: Path) -> None:
    whole, draw = path.read_bytes(), random.Random(0)
    size = GGUFHeader.read(path).size
    num_refused = 0
    for _ in range(1000):
        content = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(size)] = draw.choice([0, 1, 9, 127, 255, draw.randrange(256)])
        path.write_bytes(content)
        try:
            GGUFHeader.read(path)
        except BrokenGGUF:
            num_refused += 1
    assert num_refused > 100


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").mkdir()
    with pytest.raises(BrokenGGUF, match="cannot be read: Is a directory"):
        GGUFHeader.read(tmp_path / "m.gguf")

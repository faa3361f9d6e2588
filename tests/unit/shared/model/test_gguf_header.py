from __future__ import annotations

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

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_gguf import write_tiny_gguf
from workers.engine.attention.slots import UnsupportedModel
from workers.engine.loading.model_files import ModelFiles


@pytest.mark.parametrize(
    ("words", "tokens"), [("gpt-2", ["Ġa", "Ġ1", "1"]), ("smollm", ["Ġa", "Ġ", "1", "1"])]
)
def test_text_is_split_as_the_file_says(words: str, tokens: list[str], tmp_path: Path) -> None:
    """transformers silently splits both as GPT-2 does."""
    write_tiny_gguf(tmp_path / "tiny.gguf", words=words)
    files = ModelFiles(tmp_path / "tiny.gguf")
    files.check()
    assert files.tokenizer().tokenize(" a 11") == tokens


def test_an_unknown_pre_tokenizer_is_refused(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf", words="jais")
    with pytest.raises(UnsupportedModel, match="pre-tokenizer 'jais'"):
        ModelFiles(tmp_path / "tiny.gguf").check()

"""ModelFiles: where a model lies, and what is read of it before its weights are."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from shared.errors import BatonError
from shared.model.gguf_header import GGUFHeader, find_gguf
from workers.engine.attention.slots import UnsupportedModel
from workers.engine.config import Quant
from workers.engine.loading.gguf_tokenizer import check_words, split_words

#: The files of a model: its weights, and what makes text of tokens.
_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
_SMALL_FILES = ("*.json", "*.jinja", "*.model", "*.txt")
_BLOCK = 1 << 16
_BLOCKS_PER_FILE = 16
#: Architectures whose GGUF files transformers is known to read as they were meant.
_GGUF_ARCHITECTURES = ("llama", "qwen2", "qwen3")
#: What transformers raises for files it cannot make sense of.
_UNREADABLE = (ValueError, OSError, KeyError, IndexError, TypeError, NotImplementedError)


class ModelLoadError(BatonError):
    """Raised when there is no usable model where one was named."""


class ModelFiles:
    """A directory as the hub has them, or one GGUF file that holds everything."""

    def __init__(self, path: Path) -> None:
        """`path`: the file, or a directory; one that holds a GGUF file and no safetensors means it."""
        gguf = find_gguf(path)
        #: The directory or the GGUF file.
        self.path = gguf or path
        self.is_gguf = gguf is not None

    @classmethod
    def find(cls, name: str) -> ModelFiles:
        """What a setting names; what is no path is fetched from the hub. Raises ModelLoadError."""
        path = Path(name)
        if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
            return cls(path)
        if path.suffix == ".gguf":
            raise ModelLoadError(f"{name}: there is no such file")
        try:
            return cls(Path(snapshot_download(name, allow_patterns=list(_FILES))))
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise ModelLoadError(
                f"{name}: no such directory, and the hub does not give it: {error}"
            ) from error

    @property
    def arguments(self) -> dict[str, Any]:
        """As transformers' `from_pretrained` methods take them."""
        if not self.is_gguf:
            return {"pretrained_model_name_or_path": self.path, "trust_remote_code": False}
        return {
            "pretrained_model_name_or_path": self.path.parent,
            "gguf_file": self.path.name,
            "trust_remote_code": False,
        }

    def check(self) -> None:
        """What is quick to say.

        Raises ModelLoadError, BrokenGGUF, and UnsupportedModel for what is known not to run.
        """
        if self.is_gguf:
            check_gguf(self.header)
        elif not (self.path / "config.json").is_file():
            raise ModelLoadError(f"{self.path} has no config.json")
        elif not any(self.path.glob("*.safetensors")):
            raise ModelLoadError(f"{self.path} has no weights as safetensors")
        check_architecture(self.config)

    @cached_property
    def header(self) -> GGUFHeader:
        """Of the GGUF file. Raises BrokenGGUF."""
        return GGUFHeader.read(self.path)

    @cached_property
    def config(self) -> PreTrainedConfig:
        """The model's configuration. Raises ModelLoadError."""
        try:
            return AutoConfig.from_pretrained(**self.arguments)
        except _UNREADABLE as error:
            raise ModelLoadError(f"{self.path} has no usable configuration: {error}") from error

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """One of its own for each caller, who may change it. Raises ModelLoadError."""
        return copy.deepcopy(self.pristine_tokenizer)

    @cached_property
    def pristine_tokenizer(self) -> PreTrainedTokenizerBase:
        """The one that the others are copies of, for whoever only reads it. Raises ModelLoadError."""
        try:
            tokenizer = AutoTokenizer.from_pretrained(**self.arguments)
        except _UNREADABLE as error:
            raise ModelLoadError(f"{self.path} has no usable tokenizer: {error}") from error
        if self.is_gguf:
            split_words(tokenizer, self.header)
        return tokenizer

    def revision(self, quant: Quant = "none") -> str:
        """A fingerprint of the model's content that stays the same wherever it lies: 16 hexadecimal digits.

        It covers every byte of configuration and tokenizer (with their names, where they are files), and of
        weights their sizes, headers (names, shapes, dtypes) and 16 blocks of 64 KiB spread over each file:
        another fine-tune differs in all of them, a single changed weight may go unseen. Weights that were
        rounded to 8 bits are other weights: nobody goes on with an answer that they began.
        """
        digest = hashlib.blake2b(digest_size=8)
        for part in self._gguf_parts() if self.is_gguf else self._directory_parts():
            digest.update(part)
        if quant != "none":
            digest.update(quant.encode())
        return digest.hexdigest()

    def _gguf_parts(self) -> Iterator[bytes]:
        yield f"{self.path.stat().st_size}\0".encode()
        with self.path.open("rb") as file:
            yield file.read(self.header.size)
        yield from _sampled_blocks(self.path)

    def _directory_parts(self) -> Iterator[bytes]:
        small = {path for pattern in _SMALL_FILES for path in self.path.glob(pattern)}
        for path in sorted(small):
            yield f"{path.name}\0{path.stat().st_size}\0".encode()
            yield path.read_bytes()
        for path in sorted(self.path.glob("*.safetensors")):
            yield f"{path.name}\0{path.stat().st_size}\0".encode()
            with path.open("rb") as file:
                # The header, whose length is the file's first 8 bytes.
                yield file.read(int.from_bytes(file.read(8), "little"))
            yield from _sampled_blocks(path)


def check_gguf(header: GGUFHeader) -> None:
    """Refuses files of which transformers would silently leave something out. Raises UnsupportedModel."""
    architecture = header.architecture
    if architecture not in _GGUF_ARCHITECTURES:
        known = ", ".join(_GGUF_ARCHITECTURES)
        raise UnsupportedModel(f"GGUF files of {architecture!r} are not read, only of {known}")
    scaling = header.metadata.get(f"{architecture}.rope.scaling.type", "none")
    if scaling != "none" or any(tensor.name.startswith("rope_freqs") for tensor in header.tensors):
        raise UnsupportedModel("GGUF files with scaled rotary positions are not read: take the safetensors")
    check_words(header)


def check_architecture(config: PreTrainedConfig) -> None:
    """Refuses what the self-test would be too short to notice. Raises UnsupportedModel."""
    text = config.get_text_config()
    if getattr(text, "attention_chunk_size", None) is not None:
        raise UnsupportedModel(f"{text.model_type} attends in chunks (attention_chunk_size)")
    if config.is_encoder_decoder:
        raise UnsupportedModel(f"{text.model_type} is an encoder and a decoder")


def _sampled_blocks(path: Path) -> Iterator[bytes]:
    """Blocks at even distances."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for part in range(_BLOCKS_PER_FILE):
            file.seek(size * part // _BLOCKS_PER_FILE)
            yield file.read(_BLOCK)

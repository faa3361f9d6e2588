"""ModelFiles: the files of a model, and what is read from them before the weights."""

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

#: The files of a model: weights, configuration and tokenizer.
_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
_SMALL_FILES = ("*.json", "*.jinja", "*.model", "*.txt")
_BLOCK = 1 << 16
_BLOCKS_PER_FILE = 16
#: Architectures whose GGUF files transformers is known to read correctly.
_GGUF_ARCHITECTURES = ("llama", "qwen2", "qwen3")
#: Layers whose only state is keys and values. Others are state-space, convolution, linear and sparse attention.
_LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})
#: Exceptions that transformers raises for files it cannot read.
_UNREADABLE = (ValueError, OSError, KeyError, IndexError, TypeError, NotImplementedError)


class ModelLoadError(BatonError):
    """Raised when the configured model does not exist or cannot be used."""


class ModelFiles:
    """A model directory in the layout of the Hugging Face Hub, or one GGUF file that contains everything."""

    def __init__(self, path: Path) -> None:
        """`path`: a GGUF file, or a directory. In a directory with a GGUF file and no safetensors, the GGUF
        file is used."""
        gguf = find_gguf(path)
        #: The model directory, or the GGUF file.
        self.path = gguf or path
        self.is_gguf = gguf is not None

    @classmethod
    def find(cls, name: str) -> ModelFiles:
        """Find a model by path, or download it from the hub. Raises: ModelLoadError."""
        path = Path(name)
        if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
            return cls(path)
        if path.suffix == ".gguf":
            raise ModelLoadError(f"{name}: no such file")
        try:
            return cls(Path(snapshot_download(name, allow_patterns=list(_FILES))))
        except (HfHubHTTPError, HFValidationError, OSError) as error:
            raise ModelLoadError(
                f"{name}: no such directory, and it cannot be downloaded from the hub: {error}"
            ) from error

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for transformers' `from_pretrained` methods."""
        if not self.is_gguf:
            return {"pretrained_model_name_or_path": self.path, "trust_remote_code": False}
        return {
            "pretrained_model_name_or_path": self.path.parent,
            "gguf_file": self.path.name,
            "trust_remote_code": False,
        }

    def check(self) -> None:
        """Run the checks that need no weights.

        Raises: ModelLoadError, BrokenGGUF, or UnsupportedModel for models known not to work.
        """
        if self.is_gguf:
            check_gguf(self.header)
        elif not (self.path / "config.json").is_file():
            raise ModelLoadError(f"{self.path} has no config.json")
        elif not any(self.path.glob("*.safetensors")):
            raise ModelLoadError(f"{self.path} has no safetensors weights")
        check_architecture(self.config)

    @cached_property
    def header(self) -> GGUFHeader:
        """The header of the GGUF file. Raises: BrokenGGUF."""
        return GGUFHeader.read(self.path)

    @cached_property
    def config(self) -> PreTrainedConfig:
        """The model's configuration. Raises: ModelLoadError."""
        try:
            return AutoConfig.from_pretrained(**self.arguments)
        except _UNREADABLE as error:
            raise ModelLoadError(f"{self.path} has no usable configuration: {error}") from error

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """A new copy of the tokenizer, which the caller may change. Raises: ModelLoadError."""
        return copy.deepcopy(self.pristine_tokenizer)

    @cached_property
    def pristine_tokenizer(self) -> PreTrainedTokenizerBase:
        """The original tokenizer, for read-only use. Raises: ModelLoadError."""
        try:
            tokenizer = AutoTokenizer.from_pretrained(**self.arguments)
        except _UNREADABLE as error:
            raise ModelLoadError(f"{self.path} has no usable tokenizer: {error}") from error
        if self.is_gguf:
            split_words(tokenizer, self.header)
        return tokenizer

    def revision(self, quant: Quant = "none") -> str:
        """A fingerprint of the model's content, independent of its path: 16 hexadecimal digits.

        It covers every byte of the configuration and the tokenizer (and their file names, if they are files).
        Of the weights it covers sizes, headers (names, shapes, dtypes) and 16 blocks of 64 KiB spread over
        each file. A different fine-tune differs in all of them; a single changed weight may go unnoticed.
        Weights quantized to 8 bits have another revision, so that no worker continues an answer that was
        begun with other weights.
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
                # The safetensors header. The first 8 bytes of the file are its length.
                yield file.read(int.from_bytes(file.read(8), "little"))
            yield from _sampled_blocks(path)


def check_gguf(header: GGUFHeader) -> None:
    """Reject GGUF files that transformers would read only in part. Raises: UnsupportedModel."""
    architecture = header.architecture
    if architecture not in _GGUF_ARCHITECTURES:
        known = ", ".join(_GGUF_ARCHITECTURES)
        raise UnsupportedModel(f"GGUF files of {architecture!r} are not supported, only of {known}")
    scaling = header.metadata.get(f"{architecture}.rope.scaling.type", "none")
    if scaling != "none" or any(tensor.name.startswith("rope_freqs") for tensor in header.tensors):
        raise UnsupportedModel(
            "GGUF files with scaled rotary positions are not supported: use the safetensors"
        )
    check_words(header)


def check_architecture(config: PreTrainedConfig) -> None:
    """Reject architectures whose errors the short self-test would not notice. Raises: UnsupportedModel."""
    text = config.get_text_config()
    if getattr(text, "attention_chunk_size", None) is not None:
        raise UnsupportedModel(f"{text.model_type} uses chunked attention (attention_chunk_size)")
    other_layers = sorted(set(getattr(text, "layer_types", None) or ()) - _LAYER_TYPES)
    if other_layers:
        raise UnsupportedModel(
            f"{text.model_type} has layers that Baton does not run: {', '.join(other_layers)}"
        )
    if any(getattr(text, name, None) is not None for name in ("index_topk", "index_topk_blocks")):
        raise UnsupportedModel(f"{text.model_type} uses sparse attention (an indexer chooses the keys)")
    if config.is_encoder_decoder:
        raise UnsupportedModel(f"{text.model_type} is an encoder-decoder model")


def _sampled_blocks(path: Path) -> Iterator[bytes]:
    """Blocks spread evenly over the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for part in range(_BLOCKS_PER_FILE):
            file.seek(size * part // _BLOCKS_PER_FILE)
            yield file.read(_BLOCK)

"""ModelFiles: the files of a model, and what is read from them before the weights."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import safe_open
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.quantizers import AutoHfQuantizer

from shared.errors import BatonError
from shared.model.gguf_header import GGUFHeader, find_gguf
from workers.engine.attention.slots import UnsupportedModel
from workers.engine.config import Quant
from workers.engine.loading.free_memory import is_out_of_memory
from workers.engine.loading.gguf_tokenizer import check_words, split_words

#: Length of a library's own words in an error, in characters.
_MAX_REASON = 500
#: The files of a model: weights, configuration and tokenizer.
_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
_SMALL_FILES = ("*.json", "*.jinja", "*.model", "*.txt")
_INDEX = "model.safetensors.index.json"
#: Weights that could run code when they are loaded.
_PICKLES = ("*.bin", "*.pt", "*.pth")
_BLOCK = 1 << 16
_BLOCKS_PER_FILE = 16
#: Architectures whose GGUF files transformers is known to read correctly.
_GGUF_ARCHITECTURES = ("llama", "qwen2", "qwen3")
#: Models that transformers lists as language models although they do not answer a text with a text alone.
_OTHER_PURPOSES = {
    "blt": "reads bytes in patches that it chooses itself",
    "gemma4_assistant": "only drafts tokens for another model",
    "gemma4_unified_assistant": "only drafts tokens for another model",
    "moshi": "generates speech",
    "musicgen": "generates music",
    "musicgen_melody": "generates music",
}
#: Layers whose only state is keys and values. Others are state-space, convolution, linear and sparse attention.
_LAYER_TYPES = frozenset({"full_attention", "sliding_attention"})
#: Files that hold one JSON object each, if they are there.
_OBJECTS = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
#: How a file begins that Git LFS has not replaced by its content.
_LFS_POINTER = b"version https://git-lfs"


class ModelLoadError(BatonError):
    """Raised when the configured model does not exist or cannot be used."""


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever a library raises for a file that it cannot read into ModelLoadError. `what` names the file.

    transformers, tokenizers and safetensors raise errors of any kind for bad files, `Exception` itself among them.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, BatonError) or is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:_MAX_REASON] or "no reason given"
        raise ModelLoadError(f"{what}: {type(error).__name__}: {reason}") from error


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
        else:
            self._check_files()
            self._check_contents()
        check_architecture(self.config, self._config_name)
        check_runnable(self.config, self._config_name)
        longest = getattr(self.config.get_text_config(), "max_position_embeddings", None)
        if longest is not None and longest < 1:
            raise ModelLoadError(f"{self._config_name}: max_position_embeddings is {longest}")

    def _check_files(self) -> None:
        """Check that the files are there."""
        if not (self.path / "config.json").is_file():
            is_adapter = (self.path / "adapter_config.json").is_file()
            why = ": it is an adapter, merge it into its base model" if is_adapter else ""
            raise ModelLoadError(f"{self.path} has no config.json{why}")
        if not any(self.path.glob("*.safetensors")):
            pickled = next((path.name for pattern in _PICKLES for path in self.path.glob(pattern)), None)
            why = "" if pickled is None else f": convert {pickled}, which could run code when it is loaded"
            raise ModelLoadError(f"{self.path} has no safetensors weights{why}")

    def _check_contents(self) -> None:
        """Check that each file is of its kind, so that an error can name it."""
        for name in _OBJECTS:
            if (path := self.path / name).is_file():
                check_object(path)
        for path in self.path.glob("*.safetensors"):
            check_weights(path)
        if (index := self.path / _INDEX).is_file():
            shards = check_object(index).get("weight_map")
            if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
                raise ModelLoadError(f"{index} has no weight_map of file names")
            if missing := sorted(name for name in set(shards.values()) if not (self.path / name).is_file()):
                raise ModelLoadError(f"{index} names weights that are missing: {', '.join(missing[:3])}")

    @property
    def _config_name(self) -> str:
        return str(self.path if self.is_gguf else self.path / "config.json")

    @cached_property
    def header(self) -> GGUFHeader:
        """The header of the GGUF file. Raises: BrokenGGUF."""
        return GGUFHeader.read(self.path)

    @cached_property
    def config(self) -> PreTrainedConfig:
        """The model's configuration. Raises: ModelLoadError."""
        with reading(f"{self._config_name} is no usable configuration"):
            config: PreTrainedConfig = AutoConfig.from_pretrained(**self.arguments)
        if not isinstance(config.get_text_config(), PreTrainedConfig):
            raise ModelLoadError(f"{self._config_name}: text_config is not an object")
        return config

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """A new copy of the tokenizer, which the caller may change. Raises: ModelLoadError."""
        return copy.deepcopy(self.pristine_tokenizer)

    @cached_property
    def pristine_tokenizer(self) -> PreTrainedTokenizerBase:
        """The original tokenizer, for read-only use. Raises: ModelLoadError."""
        files = "" if self.is_gguf else " (tokenizer.json, tokenizer_config.json)"
        with reading(f"{self.path} has no usable tokenizer{files}"):
            tokenizer = AutoTokenizer.from_pretrained(**self.arguments)
        if not isinstance(tokenizer, PreTrainedTokenizerFast):
            kind = type(tokenizer).__name__
            raise ModelLoadError(f"{self.path}: {kind} is not supported: convert it to a tokenizer.json")
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


def check_architecture(config: PreTrainedConfig, name: str = "") -> None:
    """Reject architectures whose errors the short self-test would not notice. Raises: UnsupportedModel.

    `name`: of the configuration's file, for the error.
    """
    prefix = f"{name}: " if name else ""
    if config.model_type in _OTHER_PURPOSES:
        raise UnsupportedModel(f"{prefix}{config.model_type} {_OTHER_PURPOSES[config.model_type]}")
    text = config.get_text_config()
    model = f"{prefix}{text.model_type}"
    if getattr(text, "attention_chunk_size", None) is not None:
        raise UnsupportedModel(f"{model} uses chunked attention (attention_chunk_size)")
    other_layers = sorted(set(getattr(text, "layer_types", None) or ()) - _LAYER_TYPES)
    if other_layers:
        raise UnsupportedModel(f"{model} has layers that Baton does not run: {', '.join(other_layers)}")
    if any(getattr(text, name, None) is not None for name in ("index_topk", "index_topk_blocks")):
        raise UnsupportedModel(f"{model} uses sparse attention (an indexer chooses the keys)")
    if getattr(text, "kv_lora_rank", None) is not None:
        raise UnsupportedModel(f"{model} caches latent keys and values (multi-head latent attention)")
    if config.is_encoder_decoder:
        raise UnsupportedModel(f"{model} is an encoder-decoder model (is_encoder_decoder)")


def check_runnable(config: PreTrainedConfig, name: str) -> None:
    """Check that transformers has the model and can read its quantized weights here. Raises: ModelLoadError."""
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise ModelLoadError(f"{name}: {config.model_type} is not a model that generates text")
    if (quantization := getattr(config, "quantization_config", None)) is not None:
        with reading(f"{name}: quantization_config cannot be used"):
            AutoHfQuantizer.from_config(
                copy.deepcopy(quantization), pre_quantized=True
            ).validate_environment()


def check_object(path: Path) -> dict[str, Any]:
    """Return the JSON object that a file holds. Raises: ModelLoadError."""
    with reading(f"{path} cannot be read"):
        raw = path.read_bytes()
    if raw.startswith(_LFS_POINTER):
        raise _is_pointer(path)
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelLoadError(f"{path} does not hold a JSON object")
    return found


def check_weights(path: Path) -> None:
    """Check a file's header: its length, its JSON, and that its tensors lie within the file. Raises: ModelLoadError."""
    with reading(f"{path} cannot be read"), path.open("rb") as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise _is_pointer(path)
    with reading(f"{path} is damaged or cut off"), safe_open(path, "pt"):
        pass


def _is_pointer(path: Path) -> ModelLoadError:
    return ModelLoadError(f"{path} is a pointer of Git LFS, not the file itself: run `git lfs pull`")


def _sampled_blocks(path: Path) -> Iterator[bytes]:
    """Blocks spread evenly over the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        for part in range(_BLOCKS_PER_FILE):
            file.seek(size * part // _BLOCKS_PER_FILE)
            yield file.read(_BLOCK)

"""Loading a model from a directory or the hub, and refusing what the engine would compute wrongly."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from shared.errors import BatonError
from shared.fingerprint import Fingerprint
from workers.engine.allocator import keep_freed_memory
from workers.engine.attention import UnsupportedModel, use_slot_attention
from workers.engine.config import DType, EngineConfig
from workers.engine.exactness import Exactness, ExactnessTrial
from workers.engine.kernels import fingerprint_of
from workers.engine.linear import can_pack, pack_linears
from workers.engine.self_test import Reference, SelfTest

#: Called with how many of the model's tensors are loaded, and how many there are.
OnProgress = Callable[[int, int], None]

#: The files of a model: its weights, and what makes text of tokens.
_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
_SMALL_FILES = ("*.json", "*.jinja", "*.model", "*.txt")
_BLOCK = 1 << 16
_BLOCKS_PER_FILE = 16


class ModelLoadError(BatonError):
    """Raised when there is no usable model where one was named."""


class MissingChatTemplate(BatonError):
    """Raised when a model's tokenizer cannot turn messages into a prompt."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model ready for the engine, with what others need to know of it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    #: Fingerprint of the files that it was made of.
    revision: str
    #: Prompt and output of one sequence, in tokens.
    max_model_len: int
    #: Tokens that end a text or a turn.
    stop_token_ids: tuple[int, ...]
    #: Whether a token is, bit for bit, the same in any batch and after any resume, on this machine.
    is_exact: bool
    #: What else must be the same on another machine.
    fingerprint: Fingerprint


def load_model(config: EngineConfig, on_progress: OnProgress = lambda _done, _total: None) -> LoadedModel:
    """Loads, checks and prepares a model. Raises ModelLoadError or UnsupportedModel."""
    torch.set_num_threads(config.threads or default_threads())
    keep_freed_memory()
    directory = find_model(config.model)
    model_config = read_config(directory)
    dtype = resolve_dtype(config.dtype, torch.device(config.device), model_config)
    tokenizer = _read_tokenizer(directory)
    with _reported(on_progress):
        model = _read_model(directory, config.device, dtype)
    exactness = prepare_model(model)
    revision = model_revision(directory)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        revision=revision,
        max_model_len=_max_model_len(config.max_model_len, model_config),
        stop_token_ids=_stop_token_ids(model, tokenizer),
        is_exact=exactness.is_exact,
        fingerprint=fingerprint_of(model, revision, exactness.digest),
    )


def prepare_model(model: PreTrainedModel) -> Exactness:
    """Makes a causal language model run in the engine, in place; answers whether it is exact (LoadedModel).

    Raises UnsupportedModel when, afterwards, it would not compute what it computed before.
    """
    check_architecture(model.config)
    model.eval()
    reference = Reference.of(model)
    if can_pack(model.device, model.dtype):
        pack_linears(model, reference.probe)
    use_slot_attention(model)
    SelfTest(reference).run()
    return ExactnessTrial(model).run()


def find_model(name: str) -> Path:
    """The directory of a model; what is no directory is fetched from the hub. Raises ModelLoadError."""
    if Path(name).is_dir():
        return Path(name)
    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelLoadError(f"{name}: no such directory, and the hub does not give it: {error}") from error


def read_config(directory: Path) -> PreTrainedConfig:
    """The model's configuration. Raises ModelLoadError, and UnsupportedModel for what is known not to run."""
    if not (directory / "config.json").is_file():
        raise ModelLoadError(f"{directory} has no config.json")
    if not any(directory.glob("*.safetensors")):
        raise ModelLoadError(f"{directory} has no weights as safetensors")
    try:
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
    except (ValueError, OSError) as error:
        raise ModelLoadError(f"{directory}: {error}") from error
    check_architecture(config)
    return config


def check_architecture(config: PreTrainedConfig) -> None:
    """Refuses what the self-test would be too short to notice. Raises UnsupportedModel."""
    text = config.get_text_config()
    if getattr(text, "attention_chunk_size", None) is not None:
        raise UnsupportedModel(f"{text.model_type} attends in chunks (attention_chunk_size)")
    if config.is_encoder_decoder:
        raise UnsupportedModel(f"{text.model_type} is an encoder and a decoder")


def require_chat_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises MissingChatTemplate when the tokenizer cannot render messages."""
    if not tokenizer.chat_template:
        raise MissingChatTemplate(f"{tokenizer.name_or_path} has no chat template")


def resolve_dtype(dtype: DType, device: torch.device, config: PreTrainedConfig) -> torch.dtype:
    """`auto` is the model's own dtype on an accelerator; on a CPU bfloat16 where it has instructions for that
    (AVX-512 BF16 or AMX: 3 to 6 times as fast as float32), else float32 (bfloat16 would be emulated)."""
    if dtype != "auto":
        named: torch.dtype = getattr(torch, dtype)
        return named
    if device.type != "cpu":
        return config.dtype if isinstance(config.dtype, torch.dtype) else torch.bfloat16
    has_bfloat16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if has_bfloat16 else torch.float32


def default_threads() -> int:
    """All cores but one, which the API, Redis and the publisher need.

    Threads of a forward wait for one another some hundred times: when another process takes one of their
    cores, all of them stand still. Measured on 2 cores, medians of a step of 135M parameters in bfloat16 at
    1, 8 and 32 rows, one thread against two: quiet 20, 26, 50 against 20, 22, 36 ms; beside bursts of 15 %
    of a core 19, 26, 53 against 23, 25, 44; beside a busy core 20, 28, 58 against 44, 46, 81; with more
    than that busy, two threads took seconds.
    """
    return max(1, available_cores() - 1)


def available_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its cgroup (version 2)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def model_revision(directory: Path) -> str:
    """A fingerprint of a model's files that stays the same wherever they lie: 16 hexadecimal digits.

    It covers names, every byte of configuration and tokenizer, and of weights their sizes, headers (names,
    shapes, dtypes) and 16 blocks of 64 KiB spread over each file: another fine-tune differs in all of them,
    a single changed weight may go unseen.
    """
    digest = hashlib.blake2b(digest_size=8)
    small = {path for pattern in _SMALL_FILES for path in directory.glob(pattern)}
    for path in sorted(small):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    for path in sorted(directory.glob("*.safetensors")):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        for block in _sampled_blocks(path):
            digest.update(block)
    return digest.hexdigest()


def _sampled_blocks(path: Path) -> Iterator[bytes]:
    """The header, whose length is the file's first 8 bytes, and blocks at even distances."""
    size = path.stat().st_size
    with path.open("rb") as file:
        yield file.read(int.from_bytes(file.read(8), "little"))
        for part in range(_BLOCKS_PER_FILE):
            file.seek(size * part // _BLOCKS_PER_FILE)
            yield file.read(_BLOCK)


def _read_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise ModelLoadError(f"{directory} has no usable tokenizer: {error}") from error


def _read_model(directory: Path, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """Weights go straight to the device, one tensor after the other."""
    try:
        return AutoModelForCausalLM.from_pretrained(
            directory,
            dtype=dtype,
            device_map={"": device},
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (ValueError, OSError, KeyError) as error:
        raise ModelLoadError(f"{directory}: {error}") from error


@contextmanager
def _reported(on_progress: OnProgress) -> Iterator[None]:
    """Reports the loading of weights, of which transformers tells only progress bars."""

    def make_bar(_factory: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _ProgressBar:
        return _ProgressBar(on_progress, *args, **kwargs)

    previous = transformers_logging.set_tqdm_hook(make_bar)
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(previous)


class _ProgressBar:
    """As much of tqdm as transformers uses around an iterable."""

    def __init__(self, on_progress: OnProgress, iterable: Any = (), **_options: Any) -> None:
        self._on_progress = on_progress
        self._items = list(iterable)

    def __iter__(self) -> Iterator[Any]:
        for done, item in enumerate(self._items, start=1):
            yield item
            self._on_progress(done, len(self._items))

    def __enter__(self) -> _ProgressBar:
        return self

    def __exit__(self, *_exc: object) -> None:
        pass

    def update(self, _count: float = 1) -> None:
        pass

    def close(self) -> None:
        pass


def _max_model_len(wanted: int | None, config: PreTrainedConfig) -> int:
    made_for: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    lengths = [length for length in (wanted, made_for) if length is not None]
    if not lengths:
        raise ModelLoadError(f"{config.model_type} does not say how long it may be: set max_model_len")
    return min(lengths)


def _stop_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    named = model.generation_config.eos_token_id
    ids = set(named if isinstance(named, list) else [named]) | {tokenizer.eos_token_id}
    return tuple(sorted(ids - {None}))

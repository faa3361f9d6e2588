"""Loads a model, and rejects models that the engine would compute wrongly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    GgufConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers import modeling_gguf_pytorch_utils as gguf_loading
from transformers.utils import logging as transformers_logging

from shared.domain.fingerprint import Fingerprint
from shared.errors import BatonError
from shared.host.device_name import parts_of
from workers.engine.attention.native import use_native_attention
from workers.engine.attention.paged import use_paged_attention
from workers.engine.attention.slots import UnsupportedModel, use_slot_attention
from workers.engine.config import DType, EngineConfig, Native, Quant
from workers.engine.linear.fusion import Packer, pack_linears
from workers.engine.linear.int8 import Int8Packer
from workers.engine.linear.onednn import can_pack
from workers.engine.loading.allocator import keep_freed_memory
from workers.engine.loading.context_length import choose_context_length
from workers.engine.loading.determinism import Determinism, DeterminismTrial
from workers.engine.loading.device_map import device_map
from workers.engine.loading.kernels import fingerprint_of, uses_operations
from workers.engine.loading.model_files import ModelFiles, ModelLoadError, check_architecture, reading
from workers.engine.loading.rotary_test import require_independent_rotary
from workers.engine.loading.self_test import Reference, SelfTest
from workers.engine.loading.threads import use_threads
from workers.engine.model.fused_llama import fuse_decoder
from workers.engine.model.kv_form import KVForm, form_for
from workers.engine.model.sequence_rotary import isolate_rotary

#: Called with the number of loaded tensors and the total number of tensors.
OnProgress = Callable[[int, int], None]


class MissingChatTemplate(BatonError):
    """Raised when a model's tokenizer has no chat template."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model prepared for the engine, and its properties."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    #: Fingerprint of the model's files.
    revision: str
    #: Maximum prompt plus output of one sequence, in tokens.
    max_model_len: int
    #: Tokens that end a text or a chat turn.
    stop_token_ids: tuple[int, ...]
    #: Whether tokens are bit-identical in any batch and after any resume, on this machine.
    is_exact: bool
    #: What must match on another machine for it to compute the same tokens.
    fingerprint: Fingerprint


def load_model(
    config: EngineConfig,
    on_progress: OnProgress = lambda _done, _total: None,
    files: ModelFiles | None = None,
) -> LoadedModel:
    """Load, check and prepare a model.

    `files`: the files of `config.model`, if already located. Raises: ModelLoadError, BrokenGGUF,
    UnsupportedModel, SettingsError or OutOfMemory.
    """
    keep_freed_memory()
    files = files or ModelFiles.find(config.model)
    files.check()
    devices = [torch.device(part) for part in parts_of(config.device)]
    dtype = resolve_dtype(config.dtype, devices[0], files.config)
    use_threads(config, devices[0], dtype)
    # The engine does not change the tokenizer, and copying it takes as long as reading the file.
    tokenizer = files.pristine_tokenizer
    with _reported(on_progress):
        model = _read_model(files, devices, dtype)
    determinism = _prepare(files, model, config)
    revision = files.revision(config.quant)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        revision=revision,
        max_model_len=choose_context_length(files.config, config.max_model_len),
        stop_token_ids=_stop_token_ids(model, tokenizer),
        is_exact=determinism.is_exact,
        fingerprint=fingerprint_of(model, revision, determinism.digest, config.quant, config.native),
    )


def _prepare(files: ModelFiles, model: PreTrainedModel, config: EngineConfig) -> Determinism:
    """Prepare the model of these files. Raises: ModelLoadError, UnsupportedModel; both name the model."""
    try:
        with reading(f"{files.path} cannot be run"):
            return prepare_model(model, config.quant, config.native)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{files.path}: {error}") from error


def prepare_model(
    model: PreTrainedModel, quant: Quant = "none", native: Native = "auto", kv_form: KVForm | None = None
) -> Determinism:
    """Prepare a causal language model for the engine, in place, and test whether it is deterministic.

    `kv_form`: the form of its key-value cache. None: the one for its device. Raises: UnsupportedModel if the
    prepared model would not compute the same as before.
    """
    can_pack_here = can_pack(model.device, model.dtype)
    if quant == "int8" and not can_pack_here:
        raise UnsupportedModel("int8 weights require a CPU with oneDNN: set BATON_QUANT=none")
    check_architecture(model.config)
    model.eval()
    reference = Reference.of(model)
    isolate_rotary(model)
    require_independent_rotary(model, reference.token_ids[0])
    if can_pack_here:
        pack_linears(model, reference.probe, (Int8Packer if quant == "int8" else Packer)(native))
    if (kv_form or form_for(model.device)) == "pages":
        use_paged_attention(model)
    elif uses_operations(native, model.device, model.dtype):
        use_native_attention(model)
        fuse_decoder(model)
    else:
        use_slot_attention(model)
    SelfTest(reference, quant).run()
    return DeterminismTrial(model).run()


def require_chat_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that the tokenizer can render chat messages. Raises: MissingChatTemplate."""
    if not tokenizer.chat_template:
        raise MissingChatTemplate(f"{tokenizer.name_or_path} has no chat template")


def resolve_dtype(dtype: DType, device: torch.device, config: PreTrainedConfig) -> torch.dtype:
    """Resolve `auto` to a dtype.

    On a GPU, `auto` is the model's own dtype. On a CPU it is bfloat16 if there are instructions for it
    (AVX-512 BF16 or AMX: 3 to 6 times as fast as float32), else float32, because bfloat16 would be emulated.
    """
    if dtype != "auto":
        named: torch.dtype = getattr(torch, dtype)
        return named
    if device.type != "cpu":
        return config.dtype if isinstance(config.dtype, torch.dtype) else torch.bfloat16
    has_bfloat16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if has_bfloat16 else torch.float32


def _read_model(files: ModelFiles, devices: list[torch.device], dtype: torch.dtype) -> PreTrainedModel:
    """Read the weights directly onto their devices, one after the other. GGUF weights are dequantized first."""
    unpacked = {"quantization_config": GgufConfig(dequantize=True)}
    source = unpacked if files.is_gguf else {"use_safetensors": True}
    with reading(f"{files.path} cannot be loaded"):
        model, report = AutoModelForCausalLM.from_pretrained(
            **files.arguments,
            **source,
            config=files.config,
            dtype=dtype,
            device_map=device_map(files.config, dtype, devices),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # listed in `report`
        )
    _require_all_weights(files, model, report)
    return model


def _require_all_weights(files: ModelFiles, model: PreTrainedModel, report: dict[str, Any]) -> None:
    """Check that every weight was loaded. Raises: ModelLoadError, UnsupportedModel.

    transformers initializes missing weights at random, and skips tensors of a GGUF file that it does not
    know.
    """
    missing = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if missing:
        raise ModelLoadError(
            f"{files.path}: weights are missing or have the wrong shape: {', '.join(missing[:3])}"
        )
    wanted = len(list(model.parameters()))
    if files.is_gguf and (stored := len(files.header.tensors)) != wanted:
        raise UnsupportedModel(
            f"{files.path} has {stored} tensors, but {type(model).__name__} expects {wanted}"
        )


@contextmanager
def _reported(on_progress: OnProgress) -> Iterator[None]:
    """Report the progress of loading weights. transformers only offers progress bars for it."""

    def make_bar(_factory: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _ProgressBar:
        return _ProgressBar(on_progress, *args, **kwargs)

    previous, gguf_bar = transformers_logging.set_tqdm_hook(make_bar), gguf_loading.tqdm
    # The GGUF reader has no hook for its progress bar, so replace the bar. Most of its time goes into
    # dequantizing.
    gguf_loading.tqdm = partial(_ProgressBar, on_progress)
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(previous)
        gguf_loading.tqdm = gguf_bar


class _ProgressBar:
    """The part of tqdm's interface that transformers uses."""

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


def _stop_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    named = model.generation_config.eos_token_id
    ids = set(named if isinstance(named, list) else [named]) | {tokenizer.eos_token_id}
    return tuple(sorted(ids - {None}))

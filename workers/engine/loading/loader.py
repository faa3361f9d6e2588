"""Loading a model's weights, and refusing what the engine would compute wrongly."""

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
from workers.engine.cache.select import KVForm, form_for
from workers.engine.config import DType, EngineConfig, Native, Quant
from workers.engine.linear.fusion import Packer, pack_linears
from workers.engine.linear.int8 import Int8Packer
from workers.engine.linear.onednn import can_pack
from workers.engine.loading.allocator import keep_freed_memory
from workers.engine.loading.determinism import Determinism, DeterminismTrial
from workers.engine.loading.device_map import device_map
from workers.engine.loading.kernels import fingerprint_of, uses_operations
from workers.engine.loading.model_files import ModelFiles, ModelLoadError, check_architecture
from workers.engine.loading.self_test import Reference, SelfTest
from workers.engine.loading.threads import use_threads
from workers.engine.model.fused_llama import fuse_decoder

#: Called with how many of the model's tensors are loaded, and how many there are.
OnProgress = Callable[[int, int], None]


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


def load_model(
    config: EngineConfig,
    on_progress: OnProgress = lambda _done, _total: None,
    files: ModelFiles | None = None,
) -> LoadedModel:
    """Loads, checks and prepares a model. Raises ModelLoadError, BrokenGGUF or UnsupportedModel.

    `files`: what `config.model` names, where it was looked up before.
    """
    keep_freed_memory()
    files = files or ModelFiles.find(config.model)
    files.check()
    devices = [torch.device(part) for part in parts_of(config.device)]
    dtype = resolve_dtype(config.dtype, devices[0], files.config)
    use_threads(config, devices[0], dtype)
    # A copy takes as long as reading the file does, and the engine changes nothing.
    tokenizer = files.pristine_tokenizer
    with _reported(on_progress):
        model = _read_model(files, devices, dtype)
    exactness = prepare_model(model, config.quant, config.native)
    revision = files.revision(config.quant)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        revision=revision,
        max_model_len=_max_model_len(config.max_model_len, files.config),
        stop_token_ids=_stop_token_ids(model, tokenizer),
        is_exact=exactness.is_exact,
        fingerprint=fingerprint_of(model, revision, exactness.digest, config.quant, config.native),
    )


def prepare_model(
    model: PreTrainedModel, quant: Quant = "none", native: Native = "auto", kv_form: KVForm | None = None
) -> Determinism:
    """Makes a causal language model run in the engine, in place; answers whether it is exact (LoadedModel).

    `kv_form`: of its cache; None: the one for its device.
    Raises UnsupportedModel when, afterwards, it would not compute what it computed before.
    """
    can_pack_here = can_pack(model.device, model.dtype)
    if quant == "int8" and not can_pack_here:
        raise UnsupportedModel("int8 weights are for CPUs with oneDNN: set BATON_QUANT=none")
    check_architecture(model.config)
    model.eval()
    reference = Reference.of(model)
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


def _read_model(files: ModelFiles, devices: list[torch.device], dtype: torch.dtype) -> PreTrainedModel:
    """Weights go straight to their device, one after the other; those of a GGUF file are unpacked first."""
    unpacked = {"quantization_config": GgufConfig(dequantize=True)}
    source = unpacked if files.is_gguf else {"use_safetensors": True}
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            **files.arguments,
            **source,
            config=files.config,
            dtype=dtype,
            device_map=device_map(files.config, dtype, devices),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are reported
        )
    except (ValueError, OSError, KeyError, NotImplementedError) as error:
        raise ModelLoadError(f"{files.path}: {error}") from error
    _require_all_weights(files, model, report)
    return model


def _require_all_weights(files: ModelFiles, model: PreTrainedModel, report: dict[str, Any]) -> None:
    """Transformers draws weights that it does not find, and leaves out tensors of a GGUF file that it does
    not know."""
    drawn = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))
    if drawn:
        raise ModelLoadError(
            f"{files.path} lacks weights, or has them in another shape: {', '.join(drawn[:3])}"
        )
    wanted = len(list(model.parameters()))
    if files.is_gguf and (stored := len(files.header.tensors)) != wanted:
        raise UnsupportedModel(
            f"{files.path} has {stored} tensors, where {type(model).__name__} takes {wanted}"
        )


@contextmanager
def _reported(on_progress: OnProgress) -> Iterator[None]:
    """Reports the loading of weights, of which transformers tells only progress bars."""

    def make_bar(_factory: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _ProgressBar:
        return _ProgressBar(on_progress, *args, **kwargs)

    previous, gguf_bar = transformers_logging.set_tqdm_hook(make_bar), gguf_loading.tqdm
    # The reader of GGUF files, of whose time most goes into unpacking, knows no hook.
    gguf_loading.tqdm = partial(_ProgressBar, on_progress)
    try:
        yield
    finally:
        transformers_logging.set_tqdm_hook(previous)
        gguf_loading.tqdm = gguf_bar


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

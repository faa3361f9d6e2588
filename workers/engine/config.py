"""EngineConfig: the settings of one engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shared.errors import SettingsError

DType = Literal["auto", "float32", "bfloat16", "float16"]
#: Weights of linear layers: as loaded, or quantized to 8 bits (see `linear.int8`).
Quant = Literal["none", "int8"]
#: Use the C operations of `workers.native` where they can be built, or torch alone.
Native = Literal["auto", "off"]
#: Speculative decoding: used where the model is deterministic, or never.
Speculation = Literal["auto", "off"]


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Built once at startup. Each component receives only the values it needs.

    Raises: SettingsError if a value is out of range.
    """

    #: A directory with config.json and safetensors, a GGUF file, or a repository id on the Hugging Face Hub.
    model: str
    #: A torch device (`cpu`, `cuda`, `cuda:1`), or several GPUs that share the model (`cuda:0+cuda:1`).
    device: str = "cpu"
    #: `auto`: a dtype that is fast on the device, see `loader.resolve_dtype`.
    dtype: DType = "auto"
    quant: Quant = "none"
    native: Native = "auto"
    speculation: Speculation = "auto"
    #: Maximum number of running sequences. A job needs one per choice.
    max_slots: int = 32
    #: Maximum prompt plus output of one sequence, in tokens. None: the model's own limit.
    max_model_len: int | None = None
    #: Maximum prompt tokens of one sequence per step. A longer prompt takes several steps.
    prefill_chunk: int = 128
    #: Maximum tokens of all sequences per step. Limits how long prefill delays decoding sequences.
    max_step_tokens: int = 256
    #: Size of the key-value cache in tokens, see KVBudget. None: derived from the free memory.
    max_kv_tokens: int | None = None
    #: Share of the free memory that this engine may count as its own. Other engines may use the same device.
    memory_share: float = 1.0
    #: Threads of a forward pass. None: see `threads.default_threads`.
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_slots", "max_model_len", "prefill_chunk", "max_kv_tokens", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name} must be at least 1, not {value}")
        if self.max_step_tokens < self.max_slots:
            raise SettingsError(
                f"max_step_tokens ({self.max_step_tokens}) must be at least max_slots ({self.max_slots})"
            )

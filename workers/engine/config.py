"""EngineConfig: what one engine is built from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from shared.errors import SettingsError

DType = Literal["auto", "float32", "bfloat16", "float16"]
#: How linear layers keep their weights: as they are loaded, or rounded to 8 bits (`int8_linear`).
Quant = Literal["none", "int8"]
#: Who computes what lies between the products: `workers.native` where it can be built, or torch alone.
Native = Literal["auto", "off"]
#: Whether tokens are guessed and verified together: where the engine is exact, or never.
Speculation = Literal["auto", "off"]


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Built once at the entry; components are given the few values that they need. Raises SettingsError."""

    #: A directory with config.json and safetensors, a GGUF file, or the id of a repository on the hub.
    model: str
    #: A torch device: `cpu`, `cuda`, `cuda:1`; or GPUs that hold the model together: `cuda:0+cuda:1`.
    device: str = "cpu"
    #: `auto`: what the device computes fast, see `loader.resolve_dtype`.
    dtype: DType = "auto"
    quant: Quant = "none"
    native: Native = "auto"
    speculation: Speculation = "auto"
    #: Sequences that run at once; a job takes one per choice.
    max_slots: int = 32
    #: Prompt plus output of one sequence, in tokens. None: as long as the model was made for.
    max_model_len: int | None = None
    #: Prompt tokens that one sequence computes in one step; a longer prompt takes several steps.
    prefill_chunk: int = 128
    #: Tokens of all sequences together in one step: how long prompts may hold up those who decode.
    max_step_tokens: int = 256
    #: Key-value memory in tokens, see KVBudget. None: what the memory holds that is free.
    max_kv_tokens: int | None = None
    #: Threads of one forward. None: see `threads.default_threads`.
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_slots", "max_model_len", "prefill_chunk", "max_kv_tokens", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name} must be at least 1, not {value}")
        if self.max_step_tokens < self.max_slots:
            raise SettingsError(
                f"max_step_tokens ({self.max_step_tokens}) must reach max_slots ({self.max_slots})"
            )

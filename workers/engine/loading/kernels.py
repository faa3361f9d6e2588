"""Kernels: which libraries and CPU or GPU instructions compute a model here."""

from __future__ import annotations

import platform
from importlib import metadata

import torch
from transformers import PreTrainedModel

from shared.domain.fingerprint import Fingerprint
from shared.host.cpu_info import cpu_field, cpu_flags, read_cpu_info
from workers.engine.config import Native, Quant
from workers.engine.linear.onednn import can_pack
from workers.native.ops import compute_threads, has_operations

#: This package. Its version decides which tokens are drawn from given logits.
_PACKAGE = "baton"
#: Instruction set extensions by which oneDNN and MKL choose their kernels.
_EXTENSIONS = ("amx_tile", "avx512_bf16", "avx512_vnni", "avx512_fp16", "avx512", "avx2")


def fingerprint_of(
    model: PreTrainedModel, revision: str, digest: str, quant: Quant = "none", native: Native = "auto"
) -> Fingerprint:
    """The fingerprint of how this process computes the model."""
    return Fingerprint(
        model_revision=revision,
        dtype=str(model.dtype).removeprefix("torch."),
        kernels=kernels(model.device, model.dtype, native),
        torch=str(torch.__version__),
        processor=processor(model.device),
        digest=digest,
        baton=metadata.version(_PACKAGE),
        threads=compute_threads(),
        quant=quant,
    )


def uses_operations(native: Native, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether operations of `workers.native` compute a model of this device and dtype."""
    return native == "auto" and has_operations(device, dtype)


def kernels(device: torch.device, dtype: torch.dtype, native: Native = "auto") -> str:
    """The libraries, with the CPU's instruction set extensions or the GPU's compute capability."""
    if device.type != "cpu":
        major, minor = torch.cuda.get_device_capability(device)
        return f"CUDA {torch.version.cuda} sm_{major}{minor}"
    libraries = [_PACKAGE] if uses_operations(native, device, dtype) else []
    libraries += ["oneDNN"] if can_pack(device, dtype) else []
    libraries += ["MKL"] if torch._C.has_mkl else []
    return " ".join([*libraries, *_extensions()])


def processor(device: torch.device) -> str:
    """The processor's name, as the system reports it."""
    if device.type != "cpu":
        return str(torch.cuda.get_device_name(device))
    return cpu_field("model name", read_cpu_info()) or platform.processor() or platform.machine()


def _extensions() -> list[str]:
    flags = cpu_flags(read_cpu_info())
    found = [name for name in _EXTENSIONS if name in flags]
    capability = torch.backends.cpu.get_cpu_capability().lower()
    return found if capability in found else [*found, capability]

"""How a worker's device is written: `auto`, `cpu`, `cuda:<n>`, or GPUs with one model: `cuda:0+cuda:1`."""

from __future__ import annotations


def parts_of(device: str) -> tuple[str, ...]:
    """The single devices, in order."""
    return tuple(part.strip() for part in device.split("+"))


def read_device(text: str) -> str:
    """Raises ValueError where it names no device."""
    parts = parts_of(text)
    if parts not in (("auto",), ("cpu",)) and not all(map(_is_gpu, parts)):
        raise ValueError(f"{text!r} is not auto, cpu, cuda:<n> or cuda:<n>+cuda:<m>")
    if len(set(parts)) < len(parts):
        raise ValueError(f"{text!r} names a GPU twice")
    return "+".join(parts)


def _is_gpu(part: str) -> bool:
    return part.startswith("cuda:") and part[5:].isdigit()

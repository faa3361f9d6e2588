"""Names of a worker's device: `auto`, `cpu`, `cuda:<n>`, or several GPUs for one model, as in `cuda:0+cuda:1`."""

from __future__ import annotations


def parts_of(device: str) -> tuple[str, ...]:
    """Return the single devices, in order."""
    return tuple(part.strip() for part in device.split("+"))


def read_device(text: str) -> str:
    """Return the normalized name. Raises ValueError if `text` names no device."""
    parts = parts_of(text)
    if parts not in (("auto",), ("cpu",)) and not all(map(_is_gpu, parts)):
        raise ValueError(f"{text!r} is not auto, cpu, cuda:<n> or cuda:<n>+cuda:<m>")
    if len(set(parts)) < len(parts):
        raise ValueError(f"{text!r} names a GPU twice")
    return "+".join(parts)


def _is_gpu(part: str) -> bool:
    return part.startswith("cuda:") and part[5:].isdigit()

"""Fingerprint: everything that determines a worker's logits to the last bit."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from shared.errors import DecodeError


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Two workers with the same `id` compute the same logits.

    `threads` is not part of the id: if the number of threads changes the result, it also changes the digest.
    """

    model_revision: str
    dtype: str
    #: Libraries and instruction sets of the matrix products, such as `oneDNN avx512_bf16, MKL`.
    kernels: str
    torch: str
    #: Name of the CPU or the accelerator.
    processor: str
    #: Digest of logits that the worker computed when it loaded the model.
    digest: str
    #: Version of this package, whose sampler draws from the logits.
    baton: str
    threads: int
    #: Quantization of the linear layers: `none` or `int8`.
    quant: str = "none"

    @property
    def id(self) -> str:
        """16 hexadecimal digits, equal only for workers that compute the same logits."""
        parts = (self.model_revision, self.dtype, self.kernels, self.torch, self.processor)
        text = "\0".join((*parts, self.digest, self.baton, self.quant))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the form that `/v1/workers` shows."""
        return {"id": self.id, **asdict(self)}

    def encode(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def decode(cls, raw: str) -> Fingerprint:
        """The inverse of `encode`. Ignores fields of a newer version. Raises DecodeError."""
        try:
            return cls(**{name: value for name, value in json.loads(raw).items() if name in cls.__slots__})
        except (ValueError, TypeError, AttributeError) as error:
            raise DecodeError("fingerprint", raw) from error

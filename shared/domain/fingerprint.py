"""Fingerprint: what decides a worker's logits to the last bit."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from shared.errors import DecodeError


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """All of it but `threads` counts: on how many threads the result depends shows in the digest."""

    model_revision: str
    dtype: str
    #: Libraries and instruction sets of the products, such as `oneDNN avx512_bf16, MKL`.
    kernels: str
    torch: str
    #: The CPU's or the accelerator's name.
    processor: str
    #: Of logits that the worker computed at load.
    digest: str
    #: Version of this package, whose sampler draws from the logits.
    baton: str
    threads: int
    #: To how many bits linear layers were rounded: `none` or `int8`.
    quant: str = "none"

    @property
    def id(self) -> str:
        """16 hexadecimal digits; the same only for workers that compute the same."""
        parts = (self.model_revision, self.dtype, self.kernels, self.torch, self.processor)
        text = "\0".join((*parts, self.digest, self.baton, self.quant))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As `/v1/workers` shows it."""
        return {"id": self.id, **asdict(self)}

    def encode(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def decode(cls, raw: str) -> Fingerprint:
        """The inverse of `encode`, without what a later version tells besides. Raises DecodeError."""
        try:
            return cls(**{name: value for name, value in json.loads(raw).items() if name in cls.__slots__})
        except (ValueError, TypeError, AttributeError) as error:
            raise DecodeError("fingerprint", raw) from error

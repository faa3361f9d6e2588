from __future__ import annotations

from importlib import metadata

import torch

from tests.models import tiny_model
from workers.engine.loading.kernels import fingerprint_of, kernels, processor


def test_a_fingerprint_names_the_kernels() -> None:
    model = tiny_model("llama")
    found = fingerprint_of(model, "rev", "digest")
    assert (found.model_revision, found.dtype, found.digest) == ("rev", "float32", "digest")
    assert (found.torch, found.baton) == (torch.__version__, metadata.version("baton"))
    assert found.kernels == kernels(model.device, torch.float32) and found.processor == processor(
        model.device
    )
    assert found.kernels.split() and found.processor

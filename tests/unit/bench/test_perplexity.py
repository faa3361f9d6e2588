from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from bench.perplexity import TEXT, forms, perplexity
from tests.models import write_tiny_model
from workers.engine.config import EngineConfig
from workers.engine.loading.loader import load_model


def test_it_is_that_of_the_models_own_forward(tmp_path: Path) -> None:
    directory = write_tiny_model(tmp_path / "tiny")
    loaded = load_model(EngineConfig(str(directory), dtype="float32", threads=1))
    text = TEXT.read_text()[:300]  # several chunks
    found, num_tokens = perplexity(loaded, text)
    token_ids = torch.tensor([loaded.tokenizer(text).input_ids])
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)(token_ids).logits[0]
    surprise = torch.nn.functional.cross_entropy(logits[:-1], token_ids[0, 1:]).item()
    assert num_tokens == 299
    assert found == pytest.approx(math.exp(surprise), rel=1e-4)


def test_a_gguf_file_is_one_form_more() -> None:
    names = [form.name for form in forms(Path("model"), Path("m.gguf"))]
    assert names[:-1] == [form.name for form in forms(Path("model"), None)]
    assert names[0] == "float32" and "m.gguf" in names[-1]

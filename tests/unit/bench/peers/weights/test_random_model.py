"""The random model generates exactly the requested number of whole words."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def test_no_token_but_a_whole_word_is_ever_likely(small_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(small_model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(small_model)
    token_ids = torch.randint(len(tokenizer), (1, 64), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model(token_ids).logits[0]
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    is_word = torch.tensor(
        [token[0] == "Ġ" and token[1:].isascii() and token[1:].isalpha() for token in tokens]
    )
    # Low enough that it is never sampled, at any temperature and with 8-bit weights.
    assert (logits[:, ~is_word].amax(-1) < logits[:, is_word].amin(-1) - 50).all()
    assert len(set(logits.argmax(-1).tolist())) > 10


def test_the_model_needs_no_text_before_it_renders_a_system_message(small_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(small_model)
    messages = [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == "<|im_start|>system\na<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n"

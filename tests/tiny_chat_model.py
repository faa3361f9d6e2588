"""A model directory as users bring one: a tiny random Llama, a trained tokenizer, a chat template."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

#: Words that the tokenizer knows; every other text is spelt in bytes.
TEXT = ["count from one to thirty and tell me what comes after the last number", "0123456789 " * 4]
CONTEXT = 4096
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=CONTEXT,
    )
    fast.chat_template = TEMPLATE
    return fast


def make_tiny_chat_model(directory: Path, **overrides: Any) -> Path:
    """Write the model to `directory` and answer it. The same weights at every call.

    `overrides`: of its configuration.
    """
    fast = _tokenizer()
    shape: dict[str, Any] = {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
    }
    config = LlamaConfig(
        vocab_size=len(fast),
        max_position_embeddings=CONTEXT,
        bos_token_id=fast.bos_token_id,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        tie_word_embeddings=False,
        **(shape | overrides),
    )
    torch.manual_seed(7)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.4)
        # Nothing ends an answer but its limit, so that tests choose its length.
        model.lm_head.weight[[0, 1, 2]] = 0
    model.save_pretrained(directory)
    fast.save_pretrained(directory)
    return directory


@functools.lru_cache(1)
def loaded(directory: Path) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The model and its tokenizer as transformers loads them."""
    torch.set_num_threads(1)  # in so small a model several wait for each other, 15 times as long
    model = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    return model, PreTrainedTokenizerFast.from_pretrained(directory)


def reference_answer(directory: Path, prompt: str, num_tokens: int) -> str:
    """What transformers' own `generate` answers to the prompt alone, greedily."""
    tokens, num_prompt = _generate(directory, prompt, num_tokens)
    text = loaded(directory)[1].decode(tokens[num_prompt:], skip_special_tokens=True)
    assert isinstance(text, str)
    return text


def reference_logits(directory: Path, prompt: str, num_tokens: int) -> torch.Tensor:
    """[num_tokens, vocabulary]: of which transformers draws that answer."""
    tokens, num_prompt = _generate(directory, prompt, num_tokens)
    with torch.no_grad():
        logits = loaded(directory)[0](tokens[None, :-1]).logits
    assert isinstance(logits, torch.Tensor)
    return logits[0, num_prompt - 1 :]


def reference_prompt_logits(directory: Path, prompt: str) -> tuple[list[int], torch.Tensor]:
    """The prompt's tokens, and the logits, [tokens, vocabulary], behind each of them in float64."""
    tokens, num_prompt = _generate(directory, prompt, 1)
    model = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float64).eval()
    with torch.no_grad():
        logits = model(tokens[None, :num_prompt]).logits
    assert isinstance(logits, torch.Tensor)
    return tokens[:num_prompt].tolist(), logits[0]


@functools.cache
def _generate(directory: Path, prompt: str, num_tokens: int) -> tuple[torch.Tensor, int]:
    """Prompt and answer, and the length of the prompt."""
    model, tokenizer = loaded(directory)
    messages = [{"role": "user", "content": prompt}]
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**inputs, max_new_tokens=num_tokens, do_sample=False)
    return output[0], inputs["input_ids"].shape[1]


if __name__ == "__main__":
    make_tiny_chat_model(Path(sys.argv[1]))

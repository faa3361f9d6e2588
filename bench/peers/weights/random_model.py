"""Creates a Llama with random weights that never ends an answer, whichever server runs it.

Residual dimension 0 is a constant that no layer writes to. The head reads it with a large negative weight for every
token that ends a text or is not a whole word. So greedy and sampled answers have exactly the requested length without
`ignore_eos`, which not every server supports, and each token is one piece of a stream.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CONTEXT = 2048
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
#: Value of the constant dimension, and the head's weight for forbidden tokens: after the last norm, their logits are
#: some hundreds below the best one.
_CONSTANT, _NEVER = 1.0, -1000.0
#: A space and letters in the byte-level alphabet.
_WORD = re.compile("Ġ[a-z]+")


@dataclass(frozen=True, slots=True)
class Shape:
    """The default has 109 million weights."""

    vocabulary: int = 22016
    hidden: int = 768
    feed_forward: int = 2048
    layers: int = 12
    heads: int = 12
    kv_heads: int = 4


def write_random_model(directory: Path, shape: Shape) -> None:
    """Writes a Hugging Face model directory in bfloat16. The weights are the same at every call."""
    tokenizer = train_tokenizer(shape.vocabulary)
    model = make_model(tokenizer, shape)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def train_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer like GPT-2's, trained on made-up words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_text()], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        model_max_length=CONTEXT,
    )
    fast.chat_template = TEMPLATE
    return fast


def make_model(tokenizer: PreTrainedTokenizerFast, shape: Shape) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                # Large enough that the output depends on the whole prompt.
                weight.normal_(0.0, 1.0 if "embed" in name else 0.04)
        _forbid(model, [i for token, i in tokenizer.get_vocab().items() if not _WORD.fullmatch(token)])
    return model.to(torch.bfloat16)


def _forbid(model: LlamaForCausalLM, token_ids: list[int]) -> None:
    model.model.embed_tokens.weight[:, 0] = _CONSTANT
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[0] = 0
        layer.mlp.down_proj.weight[0] = 0
    model.lm_head.weight[:, 0] = 0
    model.lm_head.weight[token_ids, 0] = _NEVER


def _text() -> str:
    """Words of two to four syllables, more than fit in the vocabulary."""
    source = random.Random(0)
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
    words = ("".join(source.choices(syllables, k=source.randint(2, 4))) for _ in range(60_000))
    return " ".join(words)

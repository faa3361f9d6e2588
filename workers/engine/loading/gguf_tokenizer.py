"""The words into which the tokenizer of a GGUF file splits text before it looks for tokens.

A file names the way only (`tokenizer.ggml.pre`; https://github.com/ggml-org/llama.cpp, src/llama-vocab.cpp).
transformers takes GPT-2's for each name that it does not know, and the model reads tokens that it never saw.
"""

from __future__ import annotations

from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerBase
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from shared.model.gguf_header import GGUFHeader
from workers.engine.attention.slots import UnsupportedModel

_BYTE_LEVEL = "gpt2"
#: Digits one by one, the rest as GPT-2 does.
_SINGLE_DIGITS = "smollm"
_KNOWN = {"gpt-2", _SINGLE_DIGITS, *GGUF_PRE_TOKENIZER_SPLITS}


def check_words(header: GGUFHeader) -> None:
    """Raises UnsupportedModel when nobody here knows how the file's tokenizer splits text."""
    if header.metadata.get("tokenizer.ggml.model") == _BYTE_LEVEL and _words(header) not in _KNOWN:
        raise UnsupportedModel(f"GGUF files that split text as {_words(header)!r} are not read")


def split_words(tokenizer: PreTrainedTokenizerBase, header: GGUFHeader) -> None:
    """Mends what transformers made of the file, in place."""
    if _words(header) == _SINGLE_DIGITS:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )


def _words(header: GGUFHeader) -> str:
    return str(header.metadata.get("tokenizer.ggml.pre", "default"))

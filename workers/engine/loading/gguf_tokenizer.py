"""How the tokenizer of a GGUF file splits text into words before it looks for tokens.

The file contains only the name of the method (`tokenizer.ggml.pre`; https://github.com/ggml-org/llama.cpp,
src/llama-vocab.cpp). For unknown names transformers silently uses GPT-2's method, so the model would receive
tokens that it has never seen.
"""

from __future__ import annotations

from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerBase
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from shared.model.gguf_header import GGUFHeader
from workers.engine.attention.slots import UnsupportedModel

_BYTE_LEVEL = "gpt2"
#: Splits digits one by one, and everything else as GPT-2 does.
_SINGLE_DIGITS = "smollm"
_KNOWN = {"gpt-2", _SINGLE_DIGITS, *GGUF_PRE_TOKENIZER_SPLITS}


def check_words(header: GGUFHeader) -> None:
    """Check that this file's way of splitting text is known. Raises: UnsupportedModel."""
    if header.metadata.get("tokenizer.ggml.model") == _BYTE_LEVEL and _words(header) not in _KNOWN:
        raise UnsupportedModel(f"GGUF files with the pre-tokenizer {_words(header)!r} are not supported")


def split_words(tokenizer: PreTrainedTokenizerBase, header: GGUFHeader) -> None:
    """Correct, in place, the tokenizer that transformers made from the file."""
    if _words(header) == _SINGLE_DIGITS:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )


def _words(header: GGUFHeader) -> str:
    return str(header.metadata.get("tokenizer.ggml.pre", "default"))

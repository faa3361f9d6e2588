"""Mutations of model directories: what other people's files may hold, and what damage does to them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.garbage import change, damage

#: Values for a field of a configuration, beside being absent.
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 3, 7, 48, 10**9, 2**63, -(2**40), 0.5, -1.5, 1e30, float("nan"),
    float("inf"), "", "x", "1", "auto",
    [], [1], ["x"], {}, {"a": 1}, {"rope_type": "linear", "factor": 2.0}, {"quant_method": "gptq", "bits": 4},
)  # fmt: skip
#: Fields that the tiny model's config does not have and others do.
_FURTHER_FIELDS: dict[str, tuple[Any, ...]] = {
    "rope_scaling": (
        {"rope_type": "linear", "factor": 2.0}, {"rope_type": "yarn", "factor": 4.0},
        {"rope_type": "dynamic", "factor": 2.0},
        {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}, {"rope_type": "llama3"},
        {"rope_type": "new"}, "x", [],
    ),
    "rope_theta": (1e6, 0, -1, "x", 1e300), "partial_rotary_factor": (0.5, 0, 2, "x"),
    "sliding_window": (4, 0, -1, "x"), "use_sliding_window": (True,),
    "layer_types": (["full_attention"], ["x", "y"], "x"),
    "quantization_config": (
        {"quant_method": "gptq", "bits": 4}, {"quant_method": "awq", "bits": 4},
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "fp8"}, {"quant_method": "compressed-tensors"}, {"quant_method": "new"}, {}, "x",
    ),
    "auto_map": ({"AutoConfig": "configuration_x.XConfig", "AutoModelForCausalLM": "modeling_x.X"},),
    "is_encoder_decoder": (True,), "attention_chunk_size": (8,), "num_local_experts": (4,),
    "final_logit_softcapping": (30.0, "x"),
    "attn_implementation": ("flash_attention_2", "x"), "_attn_implementation": ("eager", "x"),
    "tie_word_embeddings": (True, "x"),
    "text_config": ({"hidden_size": 8}, "x"), "torch_dtype": ("float16", "float8", "x"),
    "dtype": ("bfloat16", "int4", 7),
    "transformers_version": ("99.0.0", 5),
    "model_type": ("mamba", "qwen2", "gpt2", "whisper", "bert", "", "LLAMA", "deepseek_v3"),
    "architectures": (["BertModel"], [], ["X"], "LlamaForCausalLM", None),
}  # fmt: skip
_TEMPLATES = (
    "", "{{", "{% for x in messages %}", "{{ messages[99].content }}", "{{ raise_exception('no') }}",
    "{% include 'x' %}", "plain",
    "{{ ''.__class__.__mro__ }}", "{{ messages | nope }}", "{{ 1 / 0 }}",
    "{% for m in messages %}{{ m['content'] | length }}{% endfor %}",
    "{% for m in messages %}{% for part in m['content'] %}{{ part['text'] }}{% endfor %}{% endfor %}",
    "{{ bos_token + nothing }}",
    "{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}",
    "{% set x = namespace(a=1) %}{{ x.b.c }}", "{{ messages }}",
    "{% for m in messages %}{{ m['content'] * 200000 }}{% endfor %}",
    "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "{% for a in range(90000) %}{% for b in range(90000) %}{{ a * b }}{% endfor %}{% endfor %}",
    "{{ messages[0]['content'].upper() }}", "\ud7ff\0{{ messages[0].content }}",
    "{% generation %}{{ messages[0].content }}{% endgeneration %}",
    "{{ strftime_now('%Y') }}{{ messages[0].content }}",
    "{% if messages[0].role != 'system' %}{{ raise_exception('system first') }}{% endif %}",
)  # fmt: skip
_GENERATION_FIELDS = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "eos_token_id", "pad_token_id",
    "bos_token_id", "max_new_tokens",
    "max_length", "do_sample", "transformers_version", "_from_model_config",
)  # fmt: skip
_TOKENIZER_FIELDS = (
    "tokenizer_class", "bos_token", "eos_token", "pad_token", "unk_token", "model_max_length",
    "added_tokens_decoder", "chat_template",
    "add_bos_token", "clean_up_tokenization_spaces", "auto_map", "extra_special_tokens", "backend",
    "is_local",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutation:
    """What was changed in a model."""

    group: str
    #: Name of the changed file.
    file: str
    what: str


def mutate(chance: random.Random, path: Path) -> Mutation:
    """Change one file of a model, in place. `path`: a directory, or a GGUF file."""
    if path.suffix == ".gguf":
        return _mutate_gguf(chance, path)
    return chance.choice(_MAKERS)(chance, path)


def _config(chance: random.Random, directory: Path) -> Mutation:
    """A field of config.json dropped or set to another value."""
    return _field(chance, directory / "config.json", _FURTHER_FIELDS)


def _generation(chance: random.Random, directory: Path) -> Mutation:
    return _field(chance, directory / "generation_config.json", dict.fromkeys(_GENERATION_FIELDS, _VALUES))


def _tokenizer_config(chance: random.Random, directory: Path) -> Mutation:
    return _field(chance, directory / "tokenizer_config.json", dict.fromkeys(_TOKENIZER_FIELDS, _VALUES))


def _field(chance: random.Random, path: Path, further: dict[str, tuple[Any, ...]]) -> Mutation:
    fields = json.loads(path.read_text())
    name = chance.choice(sorted({*fields, *further}))
    if name in fields and chance.random() < 0.2:
        del fields[name]
        path.write_text(json.dumps(fields))
        return Mutation(path.name, path.name, f"{name} is missing")
    fields[name] = (
        chance.choice(further[name]) if name in further and chance.random() < 0.6 else chance.choice(_VALUES)
    )
    path.write_text(json.dumps(fields))
    return Mutation(path.name, path.name, f"{name} = {json.dumps(fields[name])}")


def _tree(name: str) -> Callable[[random.Random, Path], Mutation]:
    """A JSON file with a changed tree."""

    def make(chance: random.Random, directory: Path) -> Mutation:
        path = directory / name
        tree = change(chance, json.loads(path.read_text()))
        path.write_bytes(json.dumps(tree).encode("utf-8", "surrogatepass"))
        return Mutation(f"{name}, tree", name, f"another tree, {path.stat().st_size} bytes")

    return make


def _bytes(name: str) -> Callable[[random.Random, Path], Mutation]:
    """A file with damaged bytes, of no bytes, of other content, or none at all."""

    def make(chance: random.Random, directory: Path) -> Mutation:
        path = directory / name
        match chance.randrange(8):
            case 0:
                path.unlink()
                what = "is missing"
            case 1:
                path.write_bytes(b"")
                what = "is empty"
            case 2:
                path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n")
                what = "is a pointer of Git LFS"
            case 3:
                path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])
                what = f"is cut off at {path.stat().st_size} bytes"
            case 4:
                path.write_text(chance.choice(("<html>404</html>", "[]", "null", "{}", '"x"', "7")))
                what = f"is {path.read_text()}"
            case _:
                before = path.read_bytes()
                path.write_bytes(damage(chance, before))
                what = f"has damaged bytes, {path.stat().st_size - len(before):+d}"
        return Mutation(f"{name}, bytes", name, what)

    return make


def _template(chance: random.Random, directory: Path) -> Mutation:
    path, text = directory / "chat_template.jinja", chance.choice(_TEMPLATES)
    path.write_text(text)
    return Mutation("chat template", path.name, f"is {text!r}")


def _weights_header(chance: random.Random, directory: Path) -> Mutation:
    """The JSON header of the weights: names, types, shapes and offsets."""
    path = directory / "model.safetensors"
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header, weights = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    names = sorted(name for name in header if name != "__metadata__")
    name = chance.choice(names)
    tensor = header[name]
    match chance.randrange(9):
        case 0:
            del header[name]
            what = f"{name} is missing"
        case 1:
            header[f"{name}.x"] = header.pop(name)
            what = f"{name} has another name"
        case 2:
            tensor["dtype"] = chance.choice(("F16", "BF16", "F64", "I8", "F8_E4M3", "X", "", 7, None))
            what = f"dtype of {name} = {tensor['dtype']!r}"
        case 3:
            tensor["shape"] = chance.choice(
                ([], [0], [-1], tensor["shape"][::-1], [*tensor["shape"], 1], [2**40, 2**40], "x", None)
            )
            what = f"shape of {name} = {tensor['shape']!r}"
        case 4:
            begin, end = tensor["data_offsets"]
            tensor["data_offsets"] = chance.choice(
                ([begin, end + 4], [end, begin], [begin, 2**63], [-4, end], [begin], [], "x", [0, 0])
            )
            what = f"offsets of {name} = {tensor['data_offsets']!r}"
        case 5:
            other = chance.choice(names)
            header[name], header[other] = header[other], header[name]
            what = f"{name} and {other} are exchanged"
        case 6:
            header["extra"] = dict(tensor)
            what = "an extra tensor over the bytes of another"
        case 7:
            header["__metadata__"] = chance.choice(
                ({"format": "tf"}, {"format": "x"}, {}, "x", None, {"format": 7})
            )
            what = f"metadata = {header['__metadata__']!r}"
        case _:
            header = change(chance, header)
            what = "another tree"
    text = json.dumps(header).encode()
    length = chance.choice((0, 2**63, len(text) + 5)) if chance.random() < 0.05 else len(text)
    path.write_bytes(length.to_bytes(8, "little") + text + weights)
    return Mutation("model.safetensors, header", path.name, what)


def _weights(chance: random.Random, directory: Path) -> Mutation:
    """Other numbers: what runs must then run as transformers does, and NaN must be noticed."""
    path = directory / "model.safetensors"
    raw = bytearray(path.read_bytes())
    begin = 8 + int.from_bytes(raw[:8], "little")
    number = chance.choice(
        (b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\0\0", b"\xff\xff\x7f\x7f", chance.randbytes(4))
    )
    count = chance.choice((1, 100, 5000))
    at = begin + 4 * chance.randrange((len(raw) - begin) // 4 - count)
    raw[at : at + 4 * count] = number * count
    path.write_bytes(bytes(raw))
    return Mutation("model.safetensors, weights", path.name, f"{count} weights of bytes {number.hex()}")


_MAKERS: tuple[Callable[[random.Random, Path], Mutation], ...] = (
    _config, _config, _config, _config, _generation, _tokenizer_config, _tree("config.json"),
    _tree("tokenizer.json"),
    _tree("tokenizer.json"), _template, _bytes("config.json"), _bytes("tokenizer.json"),
    _bytes("generation_config.json"),
    _bytes("tokenizer_config.json"), _bytes("chat_template.jinja"), _bytes("model.safetensors"),
    _weights_header, _weights_header,
    _weights,
)  # fmt: skip


def _mutate_gguf(chance: random.Random, path: Path) -> Mutation:
    """Bytes of the header (numbers, lengths, names, types), the end of the file, or weights."""
    raw = bytearray(path.read_bytes())
    header = min(len(raw), 16_000)
    match chance.randrange(6):
        case 0:
            raw = raw[: chance.randrange(len(raw))]
            what = f"is cut off at {len(raw)} bytes"
        case 1:
            at = chance.randrange(24)
            raw[at] = chance.randrange(256)
            what = f"byte {at} of its first 24 is {raw[at]}"
        case 2:
            at = chance.randrange(24, header)
            raw[at] ^= 1 << chance.randrange(8)
            what = f"a bit of byte {at} is flipped"
        case 3:
            at = chance.randrange(24, header - 8)
            raw[at : at + 8] = chance.choice(
                (b"\xff" * 8, b"\0" * 8, (2**40).to_bytes(8, "little"), chance.randbytes(8))
            )
            what = f"8 bytes at {at} are {bytes(raw[at : at + 8]).hex()}"
        case 4:
            old = chance.choice(
                (
                    b"llama",
                    b"attention",
                    b"context_length",
                    b"block_count",
                    b"tokenizer",
                    b"rope",
                    b"general",
                    b"blk.0",
                )
            )
            at = raw.find(old)
            raw[at : at + len(old)] = chance.randbytes(len(old)) if chance.random() < 0.5 else b"x" * len(old)
            what = f"{old.decode()} at {at} has other letters"
        case _:
            at = chance.randrange(header, len(raw) - 64)
            raw[at : at + 64] = chance.choice((b"\xff" * 64, b"\0" * 64, chance.randbytes(64)))
            what = f"64 bytes of weights at {at} are others"
    path.write_bytes(bytes(raw))
    return Mutation("GGUF", path.name, what)

"""Garbage: values, JSON texts and bytes that programs stumble over, drawn from a seeded source."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

#: Strings that have broken parsers, terminals, templates, paths or databases.
STRINGS: tuple[str, ...] = (
    "", " ", "\0", "\x7f", "\ufeff", "\u202e", "\ud7ff", "\U0001f4a9", "a\r\n\r\nb", "../../etc/passwd",
    "{{7*7}}", "%s%n%x",
    "<|im_end|>", "-1", "0", "1e999", "NaN", "Infinity", "null", "true", "[]", "{}", "9" * 400, "0x10",
    "1_000",
    "x" * 70_000, "\u0000\u0001", "İ", "é" * 300,
)  # fmt: skip
NUMBERS: tuple[int | float, ...] = (
    0, -1, 1, 2**31, -(2**31), 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**30, 1e308, -1e308, 5e-324, 0.5,
    -0.0,
)  # fmt: skip
#: JSON texts that Python's own encoder would not write.
RAW_JSON: tuple[bytes, ...] = (
    b"NaN", b"-Infinity", b"1e999", b"-1e999", b"1" + b"0" * 400, b"0." + b"0" * 400 + b"1", b'"\\ud800"',
    b'"\\udfff\\ud800"',
    b'"\xff\xfe"', b'"\xc0\x80"', b'"\xed\xa0\x80"', b"'a'", b"01", b"+1", b".5", b"1.", b"tru",
    b"[" * 200 + b"]" * 200,
    b"[" * 5000, b'{"a":' * 300 + b"1" + b"}" * 300, b'{"a":1,"a":2}', b'{"a":1,}', b"[1,]", b'"\\x41"',
    b'"\t"', b'"\x00"',
    b"//", b"/**/1", b"undefined", b"1e5", b"-0", b'"\\u0000"',
)  # fmt: skip


def value(chance: random.Random, depth: int = 2) -> Any:
    """Any JSON value: mostly a nasty leaf, sometimes a small tree."""
    kinds: list[Callable[[], Any]] = [
        lambda: None,
        lambda: chance.choice((True, False)),
        lambda: chance.choice(NUMBERS),
        lambda: chance.choice(STRINGS),
    ]
    if depth:
        kinds += [
            lambda: [value(chance, depth - 1) for _ in range(chance.randrange(4))],
            lambda: {
                chance.choice(STRINGS)[:40]: value(chance, depth - 1) for _ in range(chance.randrange(4))
            },
        ]
    return chance.choice(kinds)()


def change(chance: random.Random, node: Any) -> Any:
    """The tree with one of its nodes replaced, removed, doubled or added. It may be changed in place."""
    if isinstance(node, dict) and node and chance.random() < 0.85:
        name = chance.choice(sorted(node))
        match chance.randrange(8):
            case 0:
                del node[name]
            case 1:
                node[chance.choice(STRINGS)[:40] or "x"] = value(chance)
            case 2:
                node[name + chance.choice(("", "_", "s", "\0"))] = node.pop(name)
            case _:
                node[name] = change(chance, node[name])
        return node
    if isinstance(node, list) and node and chance.random() < 0.6:
        index = chance.randrange(len(node))
        match chance.randrange(4):
            case 0:
                return node[:index] + node[index + 1 :]
            case 1:
                return [*node, *node]
            case _:
                return [*node[:index], change(chance, node[index]), *node[index + 1 :]]
    return value(chance)


def damage(chance: random.Random, raw: bytes) -> bytes:
    """Bytes with a piece cut, replaced, repeated or inserted."""
    start = chance.randrange(len(raw) + 1)
    end = min(len(raw), start + chance.choice((1, 1, 2, 4, 16, 100)))
    match chance.randrange(6):
        case 0:
            return raw[:start]
        case 1:
            return raw[:start] + chance.randbytes(max(1, end - start)) + raw[end:]
        case 2:
            return raw[:start] + raw[end:]
        case 3:
            return raw[:end] + raw[start:]
        case 4:
            return raw[:start] + chance.choice(RAW_JSON) + raw[start:]
        case _:
            flipped = bytes([raw[start] ^ (1 << chance.randrange(8))]) if start < len(raw) else b"\0"
            return raw[:start] + flipped + raw[start + 1 :]


def json_text(chance: random.Random, tree: Any) -> bytes:
    """JSON of a changed tree, sometimes with bytes that are no JSON."""
    for _ in range(chance.randrange(1, 4)):
        tree = change(chance, tree)
    raw = json.dumps(tree, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    return damage(chance, raw) if chance.random() < 0.3 else raw

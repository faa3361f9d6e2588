"""Ignored parameters: how a client learns which fields of its request are not known here."""

from __future__ import annotations

import re
from collections.abc import Iterable

HEADER = "x-ignored-parameters"
_MAX_NAMES = 20
_MAX_LENGTH = 1024
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_INDEX = re.compile(r"\[\d+\]")


def header_value(paths: Iterable[str]) -> str:
    """Names separated by commas, with `[]` for array indices; `+3` at the end counts those that are not shown."""
    names = dict.fromkeys([_INDEX.sub("[]", path) for path in paths])
    shown: list[str] = []
    length = len(f"+{len(names)}")
    for name in names:
        length += len(name) + 2
        if len(shown) < _MAX_NAMES and length <= _MAX_LENGTH and _NAME.fullmatch(name.replace("[]", "")):
            shown.append(name)
    hidden = len(names) - len(shown)
    return ", ".join([*shown, *([f"+{hidden}"] if hidden else [])])

"""Defaults: the sampling that a model's authors recommend for requests without their own values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import BatonError


@dataclass(frozen=True, slots=True)
class Defaults:
    """Sampling for a request that does not set it. The values here, OpenAI's, apply without a recommendation."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    #: Length of an answer. None: as long as fits.
    max_tokens: int | None = None


class GenerationConfig:
    """A model's generation_config.json. Empty if there is none."""

    def __init__(self, directory: Path) -> None:
        """`directory` may be a GGUF file, which has no such config. Raises BatonError if the config cannot be read."""
        self._path = directory / "generation_config.json"
        self._fields = self._read()

    @property
    def eos_token_ids(self) -> frozenset[int]:
        named = self._fields.get("eos_token_id")
        ids = named if isinstance(named, list) else [] if named is None else [named]
        if not all(isinstance(token_id, int) for token_id in ids):
            raise BatonError(f"{self._path}: eos_token_id is {named!r}")
        return frozenset(ids)

    @property
    def defaults(self) -> Defaults:
        """The same fields that vLLM uses, and `do_sample: false`, which means greedy. Raises BatonError."""
        is_greedy = self._fields.get("do_sample") is False
        return Defaults(
            temperature=0.0 if is_greedy else self._number("temperature", 1.0, least=0),
            top_p=self._number("top_p", 1.0, least=0, most=1) or 1.0,
            top_k=_positive(self._number("top_k", 0, least=-1)),
            min_p=self._number("min_p", 0.0, least=0, most=1),
            repetition_penalty=self._number("repetition_penalty", 1.0, least=0) or 1.0,
            max_tokens=_positive(self._number("max_new_tokens", 0, least=0)),
        )

    def _number(self, name: str, default: float, *, least: float, most: float = float("inf")) -> float:
        value = self._fields.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise BatonError(f"{self._path}: {name} is {value!r}")
        return value

    def _read(self) -> dict[str, Any]:
        try:
            fields = json.loads(self._path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except ValueError as error:
            raise BatonError(f"{self._path} is not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise BatonError(f"{self._path} does not hold a JSON object")
        return fields


def _positive(number: float) -> int | None:
    return int(number) if number > 0 else None

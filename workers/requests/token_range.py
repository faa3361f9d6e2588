"""TokenRange: the token ids that a model has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shared.errors import invalid_value


@dataclass(frozen=True, slots=True)
class TokenRange:
    """Checks the ids that a client names, under the names of its fields."""

    #: How many logits the model has.
    size: int

    def require(self, token_id: int, param: str) -> None:
        """Raises RequestError for an id that the model does not have."""
        if not 0 <= token_id < self.size:
            raise invalid_value(param, f"this model has {self.size} tokens, from 0 on")

    def require_all(self, token_ids: Iterable[int], param: str) -> None:
        """The same for a field that lists some."""
        for index, token_id in enumerate(token_ids):
            self.require(token_id, f"{param}[{index}]")

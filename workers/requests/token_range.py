"""TokenRange: checks the token ids of a request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shared.errors import invalid_value


@dataclass(frozen=True, slots=True)
class TokenRange:
    """The token ids of a model. Errors name the request's field."""

    #: Number of logits of the model.
    size: int

    def require(self, token_id: int, param: str) -> None:
        """Raises RequestError for an id that the model does not have."""
        if not 0 <= token_id < self.size:
            raise invalid_value(param, f"the token ids of this model are 0 to {self.size - 1}")

    def require_all(self, token_ids: Iterable[int], param: str) -> None:
        """The same for a field with a list of ids."""
        for index, token_id in enumerate(token_ids):
            self.require(token_id, f"{param}[{index}]")

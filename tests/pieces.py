"""PieceBytes: a vocabulary without a tokenizer: each token is the piece of text with its number."""

from __future__ import annotations

from collections.abc import Sequence

from workers.engine.token_bytes import TokenBytes


class PieceBytes(TokenBytes):
    """Other tokens are special."""

    def __init__(self, pieces: Sequence[str | bytes]) -> None:
        self._pieces = [piece.encode() if isinstance(piece, str) else piece for piece in pieces]

    def get(self, token_id: int, *, is_first: bool) -> bytes | None:  # noqa: ARG002
        return self._pieces[token_id] if token_id < len(self._pieces) else None

    def written(self, token_id: int) -> bytes | None:  # noqa: ARG002
        return None

"""Metadata: what a client stores with its job (https://platform.openai.com/docs/api-reference/chat/create)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

#: 16 pairs, names of 64 characters, values of 512.
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16),
]

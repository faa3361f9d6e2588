"""Flower's user and password: made at the first start, kept for this user's eyes."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import NamedTuple

USER = "baton"


class FlowerAuth(NamedTuple):
    """`user:password`, and whether it was made just now."""

    text: str
    is_new: bool


def flower_auth(path: Path) -> FlowerAuth:
    """What the file holds; it is made, with mode 0600, when it is not there."""
    try:
        return FlowerAuth(path.read_text().strip(), is_new=False)
    except FileNotFoundError:
        text = f"{USER}:{secrets.token_urlsafe(18)}"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text + "\n")
    return FlowerAuth(text, is_new=True)

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
    """What the file holds, or something new."""
    try:
        return FlowerAuth(path.read_text().strip(), is_new=False)
    except FileNotFoundError:
        return FlowerAuth(f"{USER}:{secrets.token_urlsafe(18)}", is_new=True)


def keep_flower_auth(path: Path, auth: FlowerAuth) -> None:
    """Write what is new to the file, with mode 0600. To be called once it was shown, and not before."""
    if not auth.is_new:
        return
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(auth.text + "\n")

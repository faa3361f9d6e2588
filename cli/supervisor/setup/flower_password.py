"""Flower's user and password: generated at the first start and kept in a file that only this user can read."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import NamedTuple

USER = "baton"


class FlowerAuth(NamedTuple):
    """`user:password`, and whether it was just generated."""

    text: str
    is_new: bool


def flower_auth(path: Path) -> FlowerAuth:
    """The login in the file, or a new one."""
    try:
        return FlowerAuth(path.read_text(encoding="utf-8").strip(), is_new=False)
    except FileNotFoundError:
        return FlowerAuth(f"{USER}:{secrets.token_urlsafe(18)}", is_new=True)


def keep_flower_auth(path: Path, auth: FlowerAuth) -> None:
    """Write a new login to the file, with mode 0600. Call this only after the login was shown."""
    if not auth.is_new:
        return
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(auth.text + "\n")

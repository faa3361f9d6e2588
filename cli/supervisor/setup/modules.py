"""Checks that the processes of `baton up` will import Baton's own packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from cli.errors import StartRefused

_PACKAGES = ("api", "workers", "shared", "cli")
_OWN = Path(__file__).resolve().parents[3]


def check_modules() -> None:
    """Raises StartRefused if PYTHONPATH holds another module with the name of a package, such as `api`."""
    for name in _PACKAGES:
        spec = importlib.util.find_spec(name)
        found = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if found is None or found.parent.parent != _OWN:
            raise StartRefused(
                f"Python finds the module '{name}' at {found}, not in {_OWN}; remove the other one from PYTHONPATH"
            )

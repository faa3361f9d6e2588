"""Creates a virtual environment for each rival on demand from pinned versions, and keeps it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.peers.peer import PeerUnavailable

_REQUIREMENTS = Path(__file__).parents[1] / "requirements"


class VirtualEnvs:
    """All under one directory."""

    def __init__(self, directory: Path, torch_index: str | None) -> None:
        self._directory = directory
        self._torch_index = torch_index

    def make(
        self, name: str, *, unwanted: Sequence[str] = (), environ: Mapping[str, str] | None = None
    ) -> Path:
        """Returns the `bin` directory of an environment with requirements/<name>.txt, without `unwanted` packages.

        `environ` is used for builds from source. Raises PeerUnavailable.
        """
        requirements = _REQUIREMENTS / f"{name}.txt"
        directory = self._directory / name
        stamp = directory / f"installed-{_digest(requirements.read_bytes(), repr((unwanted, environ)))}"
        if not stamp.exists():
            print(f"{name}: installing {requirements}; the first time takes minutes", flush=True)
            if directory.exists():
                shutil.rmtree(directory)
            _run([sys.executable, "-m", "venv", str(directory)])
            pip = ["nice", "-n", "10", str(directory / "bin" / "python"), "-m", "pip"]
            index = ["--extra-index-url", self._torch_index] if self._torch_index else []
            _run([*pip, "install", *index, "-r", str(requirements)], environ)
            if unwanted:
                _run([*pip, "uninstall", "-y", *unwanted])
            stamp.touch()
        return directory / "bin"


def _digest(content: bytes, options: str) -> str:
    return hashlib.blake2b(content + options.encode(), digest_size=6).hexdigest()


def _run(command: Sequence[str], environ: Mapping[str, str] | None = None) -> None:
    """Raises PeerUnavailable with the last lines of the command's output."""
    environ = {**os.environ, **(environ or {}), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        command,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode != 0:
        last = " / ".join(done.stdout.strip().splitlines()[-3:])
        raise PeerUnavailable(f"{' '.join(command)} failed: {last}")

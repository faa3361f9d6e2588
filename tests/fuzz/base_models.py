"""`python -m tests.fuzz.base_models DIRECTORY`: the tiny models that the fuzzers serve and mutate."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def make_base_model(home: Path) -> Path:
    """Write them in a process of its own; return the directory of the one in safetensors."""
    subprocess.run(
        [sys.executable, "-m", __name__, str(home)], check=True, timeout=120, stderr=subprocess.DEVNULL
    )
    return home / "tiny"


def gguf_of(home: Path) -> Path:
    return home / "gguf" / "tiny.gguf"


def main() -> None:
    from tests.tiny_chat_model import make_tiny_chat_model
    from tests.tiny_gguf import write_tiny_gguf

    home = Path(sys.argv[1])
    make_tiny_chat_model(home / "tiny")
    gguf_of(home).parent.mkdir()
    write_tiny_gguf(gguf_of(home))


if __name__ == "__main__":
    main()

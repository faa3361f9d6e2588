"""Shows the promise: processes are killed during `baton chat`, and the answer is the same as without the fault.

Starts `baton up` with two workers and two replicas, with its own ports and home. Each round requests a long answer,
disrupts the process that handles it after a third of the answer, compares the complete text, and reports the longest
silence after the fault. `--picture` draws the first round of the first fault as a terminal window.
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
    """A signal to a process, and a description of the fault."""

    role: str
    signal: signal.Signals
    description: str


FAULTS = {
    "kill": Fault("worker", signal.SIGKILL, "worker killed (kill -9), noticed by `baton up`"),
    "term": Fault("worker", signal.SIGTERM, "worker asked to stop (SIGTERM)"),
    "stop": Fault("worker", signal.SIGSTOP, "worker frozen (SIGSTOP), as if its host were lost"),
    "api": Fault("api", signal.SIGKILL, "API replica killed (kill -9) while streaming"),
}


@dataclass(frozen=True)
class Answer:
    """The pieces of an answer, each with the time (s, monotonic) at which it arrived."""

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
        """The longest gap between pieces from a time on, in seconds."""
        times = [since, *(time for time in self.times if time > since)]
        return max(after - before for before, after in itertools.pairwise(times))


class Outcome(NamedTuple):
    """The result of one fault."""

    silence_s: float
    #: Length of the answer that had arrived before the fault.
    num_bytes: int


class Site:
    """One running `baton up`."""

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
        """Starts a `baton` command in this home."""
        return subprocess.Popen([sys.executable, "-m", "cli.main", *arguments], env=self._environ, **options)

    def json(self, *arguments: str) -> Any:
        command = self.start(*arguments, "--json", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return json.loads(command.communicate(timeout=60)[0] or b"[]")

    def chat(self, when_at: int, act: Callable[[], None]) -> Answer:
        """Requests one answer. Calls `act` once `when_at` bytes of it have arrived."""
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
        return Answer(tuple(pieces))

    def are_all_ready(self) -> bool:
        parts = self.json("ps")
        workers = self.json("workers") if parts and all(part["state"] == "ready" for part in parts) else []
        return len(workers) == 2


@contextmanager
def site(model: str) -> Iterator[Site]:
    """Starts a site and stops it at the end."""
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
        assert time.monotonic() < deadline, "`baton up` did not become ready in time"
        time.sleep(0.1)


def inject(running: Site, fault: Fault, parts: list[Mapping[str, Any]]) -> tuple[float, psutil.Process]:
    """Sends the signal to the process that handles the answer. Returns the time and the process."""
    if fault.role == "worker":
        (part_id,) = {job["worker"] for job in running.json("jobs") if job["status"] == "in_progress"}
    else:
        part_id = "api-1"  # clients connect to it first
    process = psutil.Process(next(part["pid"] for part in parts if part["id"] == part_id))
    process.send_signal(fault.signal)
    return time.monotonic(), process


def measure(running: Site, fault: Fault, whole: str) -> Outcome:
    """Runs one round. Fails if the answer differs."""
    injected: list[tuple[float, psutil.Process]] = []
    parts = running.json("ps")
    answer = running.chat(len(whole.encode()) // 3, lambda: injected.append(inject(running, fault, parts)))
    ((at, process),) = injected
    assert answer.text == whole, f"the answer differs: {answer.text!r}"
    assert answer.times[-1] > at, "the fault came after the end of the answer"
    if fault.signal == signal.SIGSTOP:
        process.kill()
    wait_ready(running)
    return Outcome(answer.longest_silence(at), answer.num_bytes(at))


def draw(path: Path, whole: str, outcome: Outcome) -> None:
    """Draws the terminal as an SVG. `whole` must be ASCII."""
    caption = (
        f"The worker was killed (kill -9) where the colour begins. After {outcome.silence_s:.1f} s another"
    )
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=96, file=nowhere)
        console.print(Text.assemble(("$ ", "green"), f'baton chat "{PROMPT}" --temperature 0'))
        console.print(Text.assemble(whole[: outcome.num_bytes], (whole[outcome.num_bytes :], "bold cyan")))
        console.print()
        console.print(Text(caption, "dim"))
        console.print(
            Text("worker continued; the text is byte for byte the same as without the fault.", "dim")
        )
        console.save_svg(str(path), title="baton")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=".baton/models/SmolLM2-135M-Instruct")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--picture", type=Path, help="SVG file to draw of the first round")
    options = parser.parse_args()
    with site(str(Path(options.model).resolve())) as running:
        undisturbed = running.chat(0, lambda: None)
        usual = undisturbed.longest_silence(undisturbed.times[0])
        print(f"{len(undisturbed.text)} characters; longest silence without a fault: {usual:.2f} s")
        print(f"{options.rounds} rounds each, all answers equal; longest silence, s: min / median / max")
        for index, name in enumerate(options.faults):
            fault = FAULTS[name]
            outcomes = [measure(running, fault, undisturbed.text) for _ in range(options.rounds)]
            print(f"  {fault.description:<60}{spread([one.silence_s for one in outcomes]):>22}", flush=True)
            if options.picture and index == 0:
                draw(options.picture, undisturbed.text, outcomes[0])


if __name__ == "__main__":
    main()

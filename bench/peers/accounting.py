"""Measures CPU time and peak memory of a process tree, and the CPU time of all other processes (Linux)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """The fields of /proc/<pid>/stat (proc_pid_stat(5)) that are used here."""

    pid: int
    parent: int
    session: int
    #: In ticks since the machine booted. Together with the pid it identifies a process.
    started: int
    #: CPU time of the process, all its threads, and the children that it has waited for.
    cpu_s: float

    @classmethod
    def parse(cls, stat: str) -> Process:
        """The name is in brackets, and may itself contain spaces and brackets."""
        pid, _, rest = stat.partition(" (")
        fields = rest.rpartition(") ")[2].split()
        ticks = sum(map(int, fields[11:15]))
        return cls(int(pid), int(fields[1]), int(fields[3]), int(fields[19]), ticks / _TICKS_PER_S)


def tree_of(root: int, processes: Iterable[Process]) -> list[Process]:
    """The process `root`, its descendants, and all processes of the sessions that they lead."""
    processes = list(processes)
    found: dict[int, Process] = {}
    while True:
        new = [
            process
            for process in processes
            if process.pid not in found
            and (process.pid == root or process.parent in found or process.session in {root, *found})
        ]
        if not new:
            return list(found.values())
        found |= {process.pid: process for process in new}


def running_processes() -> Iterator[Process]:
    for directory in _PROC.iterdir():
        if directory.name.isdigit():
            try:
                yield Process.parse((directory / "stat").read_text(encoding="utf-8"))
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds so far of one process tree, of this process, and of the whole machine."""

    tree_s: float
    own_s: float
    machine_s: float

    @classmethod
    def now(cls, root: int) -> Usage:
        own = os.times()
        tree_s = sum(process.cpu_s for process in tree_of(root, running_processes()))
        return cls(tree_s, own.user + own.system, _machine_s((_PROC / "stat").read_text(encoding="utf-8")))

    def since(self, before: Usage) -> Usage:
        return Usage(
            self.tree_s - before.tree_s, self.own_s - before.own_s, self.machine_s - before.machine_s
        )

    @property
    def others_s(self) -> float:
        """CPU time of all other processes, including time that the hypervisor stole."""
        return max(0.0, self.machine_s - self.tree_s - self.own_s)


def _machine_s(stat: str) -> float:
    """All CPU time in the first line of /proc/stat except idle time."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, stat.split(maxsplit=9)[1:9])
    return (user + nice + system + irq + softirq + steal) / _TICKS_PER_S


def peak_mib(root: int) -> float:
    """The sum of the peak resident sizes of a tree's processes. Shared pages are counted for each process."""
    return sum(_peak_kib(process.pid) for process in tree_of(root, running_processes())) / 1024


def _peak_kib(pid: int) -> int:
    """0 for a process that has ended: a zombie has no memory."""
    try:
        status = (_PROC / str(pid) / "status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    lines = (line.split() for line in status.splitlines() if line.startswith("VmHWM:"))
    return next((int(fields[1]) for fields in lines), 0)

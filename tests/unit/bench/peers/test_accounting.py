"""Which processes' CPU time and memory are counted."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.peers.accounting import Process, Usage, peak_mib, tree_of

_STAT = "42 (a (b) c) S 7 42 40 0 -1 4194560 1 0 0 0 150 50 25 25 20 0 4 0 9999 1 2 3"


def test_a_process_is_read_whatever_its_name_holds() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    assert Process.parse(_STAT) == Process(pid=42, parent=7, session=40, started=9999, cpu_s=250 / ticks)


def test_a_tree_holds_descendants_and_those_that_left_their_parent_but_not_the_session() -> None:
    def process(pid: int, parent: int, session: int) -> Process:
        return Process(pid, parent, session, 0, 0.0)

    root, child, own_session = process(10, 1, 10), process(11, 10, 10), process(12, 11, 12)
    orphan, orphan_of_grandchild = process(13, 1, 10), process(14, 1, 12)
    stranger, shell = process(20, 1, 20), process(1, 0, 1)
    processes = [orphan_of_grandchild, orphan, own_session, child, root, stranger, shell]
    found = {one.pid for one in tree_of(10, processes)}
    assert found == {10, 11, 12, 13, 14}
    assert tree_of(99, processes) == []


def test_usage_tells_the_tree_from_all_others() -> None:
    before = Usage(tree_s=1.0, own_s=2.0, machine_s=10.0)
    used = Usage(tree_s=3.0, own_s=2.5, machine_s=14.0).since(before)
    assert used == Usage(2.0, 0.5, 4.0)
    assert used.others_s == pytest.approx(1.5)
    # Ticks are counted at different times.
    assert Usage(2.0, 1.0, 2.9).others_s == 0


def test_memory_and_cpu_are_those_of_the_child_too() -> None:
    code = "import sys; held = b'x' * (64 << 20); print('held', flush=True); sys.stdin.read()"
    shell = f'"{sys.executable}" -c "{code}"; true'
    with subprocess.Popen(
        ["sh", "-c", shell], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"held\n"
        usage, memory = Usage.now(parent.pid), peak_mib(parent.pid)
    assert memory > 64
    assert 0 < usage.tree_s < usage.machine_s
    assert peak_mib(parent.pid) == 0

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

#: Page faults of three blocks of 28 MB, allocated and freed ten times.
PROGRAM = """
import sys
from resource import RUSAGE_SELF, getrusage
from workers.engine.loading.allocator import keep_freed_memory

def take():
    blocks = [b"1" * (28 << 20) for _ in range(3)]

assert sys.argv[1] == "free" or keep_freed_memory()
take()
before = getrusage(RUSAGE_SELF).ru_minflt
for _ in range(10):
    take()
print(getrusage(RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    ended = subprocess.run([sys.executable, "-c", PROGRAM, mode], capture_output=True, check=True)
    return int(ended.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc")
def test_freed_blocks_are_reused_without_page_faults() -> None:
    assert faults("keep") < faults("free") / 4

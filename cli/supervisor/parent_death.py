"""Runs a command that ends when its parent does, however that ends: `python parent_death.py <parent pid> command …`.

Linux kills a process that asked for it (prctl(2), PR_SET_PDEATHSIG) when the thread that made it ends. The
request survives exec, so this launcher becomes the command. Other systems have nothing like it: there the
children of a killed `baton up` stay, and hold its lock, until they are stopped by hand.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def ends_with_parent(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` on a parent_death held by the calling process."""
    # Isolated and without site: the launcher starts in some 10 ms and reads no PYTHON* variable.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit("prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit("the parent is gone")
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()

"""Runs a command that is killed when its parent dies: `python parent_death.py <parent pid> command …`.

On Linux a process can request a signal for the moment when its parent thread ends (prctl(2), PR_SET_PDEATHSIG). The
request survives exec, so this launcher makes it and then becomes the command. Other systems have no such request:
there, the children of a killed `baton up` keep running, and hold its lock, until they are stopped by hand.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def ends_with_parent(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` until the calling process dies."""
    # Isolated and without site, the launcher starts in about 10 ms and ignores PYTHON* variables.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit("prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit("the parent process has ended already")
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()

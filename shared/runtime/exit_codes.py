"""Exit codes with which a process reports why it ended. The first two come from sysexits.h."""

from __future__ import annotations

#: An internal error: the supervisor starts the process again.
EX_SOFTWARE = 70
#: Wrong configuration: starting the process again would not help.
EX_CONFIG = 78
#: A worker was asked to drain: do not start it again. The first number that sysexits.h leaves free.
EX_DRAINED = 79

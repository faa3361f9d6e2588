"""Exit codes with which a process reports why it ended. The first three come from sysexits.h."""

from __future__ import annotations

#: An internal error: the supervisor starts the process again.
EX_SOFTWARE = 70
#: The system refused to start the process. For a process that did not start, in place of its exit code.
EX_OSERR = 71
#: Wrong configuration: starting the process again would not help.
EX_CONFIG = 78
#: A worker was asked to drain: do not start it again. The first number that sysexits.h leaves free.
EX_DRAINED = 79

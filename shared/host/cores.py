"""available_cores: how many cores this process may use."""

from __future__ import annotations

import os

from shared.host.cgroup import cpu_quotas


def available_cores() -> int:
    """By its affinity and by the quotas of its control groups. At least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, *cpu_quotas()])))

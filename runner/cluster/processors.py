"""Counts the CPUs that this process may use, which can be fewer than the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def usable_cpus(cgroups: Path = _CGROUPS) -> int:
    """Returns how many CPUs this process may use, at least 1.

    A container's limit (`docker run --cpus 2`, a pod's `limits`) is a quota of time in a control group;
    `taskset` and Slurm bind a process to some of the CPUs. The machine's number knows of neither.

    Args:
        cgroups: where the control groups are mounted.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min(bound, _quota(cgroups))))


def _quota(cgroups: Path) -> float:
    """The CPUs that a control group grants; infinite without a limit."""
    # Version 2 has both numbers in one file, version 1 one in each.
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = " ".join((cgroups / name).read_text() for name in names).split()
        except OSError:
            continue
        if words[0] not in ("max", "-1"):
            return int(words[0]) / int(words[1])
    return math.inf

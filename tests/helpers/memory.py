"""How much memory of this process something takes, whoever allocates it: Python, numpy, PyTorch or Pillow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from r2d2.processor.allocator import give_back


def peak_memory(read: Callable[[], object]) -> float:
    """What this process had at most while something ran, above what it had before, MiB."""
    # What other tests freed and this process kept would hide as much of what is taken now.
    give_back()
    before = _resident("VmRSS")
    # Sets the peak back to what there is now (Linux, proc_pid_clear_refs(5)).
    Path("/proc/self/clear_refs").write_text("5")
    read()
    return _resident("VmHWM") - before


def _resident(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024

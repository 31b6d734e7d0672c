"""Allocator: has the C library keep the memory of large tensors for the next ones.

By default glibc asks the system for every block above 32 MiB and gives it back when it is freed. The maps of
a training step are larger, and the system clears each anew, page by page, whenever it is written to first: a
third of a step's time on some machines.
"""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt(3), and the largest value of its type.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 2**31 - 1


def keep_memory() -> bool:
    """From here on, this process keeps up to 2 GiB of what it has freed, and uses it again.

    Returns:
        Whether the C library does so; only glibc does.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = {_MMAP_THRESHOLD: 2**30, _TRIM_THRESHOLD: _LARGEST, _TOP_PAD: 2**26}
    return all(bool(mallopt(name, value)) for name, value in wanted.items())

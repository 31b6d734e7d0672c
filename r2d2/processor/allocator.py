"""Has the C library keep the memory of large tensors for the next ones.

By default glibc asks the system for every block above 32 MiB and gives it back when it is freed. The maps of
a training step are larger, and the system clears each anew, page by page, whenever it is written to first: a
third of a step's time on some machines.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

# Parameters of glibc's mallopt(3), and the largest value of its type.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_LARGEST = 2**31 - 1


def keep_memory() -> bool:
    """Makes this process keep the memory that it frees, about as much as it ever had, and use it again.

    Threads keep theirs only if the program was started with MALLOC_ARENA_MAX=1: otherwise each thread has a
    heap of its own, of 64 MiB, and larger blocks never stay.

    Returns:
        Whether the C library does so; glibc does.
    """
    return _set({_MMAP_MAX: 0, _TRIM_THRESHOLD: _LARGEST, _TOP_PAD: 2**26})


def give_back() -> bool:
    """Gives the freed memory that this process keeps back to the system; later needs ask for it anew.

    If a program asks for blocks of ever new sizes, the kept blocks fit badly, and more and more memory is
    kept.

    Returns:
        Whether the C library does so; glibc does.
    """
    trim = _c_function("malloc_trim")
    if trim is None:
        return False
    trim(0)
    return True


def _set(values: dict[int, int]) -> bool:
    mallopt = _c_function("mallopt")
    if mallopt is None:
        return False
    # Each of them, whatever becomes of the others.
    taken = [bool(mallopt(name, value)) for name, value in values.items()]
    return all(taken)


def _c_function(name: str) -> Any:
    """A function of the C library; None where it has none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None

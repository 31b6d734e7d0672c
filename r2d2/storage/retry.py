"""Tries again what may pass, within a time, and gives up an answer that comes too slowly."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from itertools import count
from typing import TypeVar

Result = TypeVar("Result")

# Pauses, seconds: about the first one, doubled each time, and never longer than the last one.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
_CHUNK = 2**18


class PassingError(Exception):
    """An answer failed in a way that may pass: it came too slowly, ended too early, or was put off."""


def patiently(
    action: Callable[[], Result], passes: Callable[[Exception], bool], seconds: float | Callable[[], float]
) -> Result:
    """Tries an action again while its error may pass; returns its result.

    The pauses are random, between half and all of their length, so that many processes which lost the same
    server do not come back to it at the same moment.

    Args:
        action: without arguments.
        passes: whether an error may pass by itself.
        seconds: after as many no further attempt is begun; a function is asked after each failure how many
            are left, e.g. because there was progress.

    Raises:
        Exception: the last one of the action.
    """
    started = time.monotonic()
    for attempt in count():
        try:
            return action()
        except Exception as error:
            pause = random.uniform(0.5, 1) * min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(attempt, 20))
            left = seconds() if callable(seconds) else seconds - (time.monotonic() - started)
            if not passes(error) or pause > left:
                raise
        time.sleep(pause)
    raise AssertionError("unreachable")


def steady(
    read: Callable[[int], bytes], grace: float, slowest: float, size: int | None = None
) -> Iterator[bytes]:
    """Yields the bytes of an answer as they come.

    Args:
        read: returns what has come, at most so many bytes; none at the end. Unlike a `read` that waits for
            all of them, it shows how slowly they come.
        grace: seconds by which they may come later than at the slowest speed.
        slowest: bytes per second.
        size: bytes that the answer has; None: whatever comes.

    Raises:
        PassingError: if they come too slowly, or end too early.
    """
    begun, got = time.monotonic(), 0
    while size is None or got < size:
        data = read(_CHUNK if size is None else min(_CHUNK, size - got))
        if not data and size is not None:
            raise PassingError(f"the answer ended after {got} of {size} bytes")
        if not data:
            return
        got += len(data)
        yield data
        seconds = time.monotonic() - begun
        if seconds > grace + got / slowest:
            raise PassingError(f"only {got} bytes came in {seconds:.0f} s")

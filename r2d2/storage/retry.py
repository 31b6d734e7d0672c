"""Retry: an action again, after faults that pass, with growing and random pauses, within a limit of time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from itertools import count
from typing import TypeVar

Result = TypeVar("Result")

# Pauses, seconds: about the first one, doubled each time, and never longer than the last one.
FIRST, LONGEST = 0.1, 5.0


def patiently(
    action: Callable[[], Result], passes: Callable[[Exception], bool], seconds: float | Callable[[], float]
) -> Result:
    """The result of an action that is tried again while its error may pass.

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
            pause = random.uniform(0.5, 1) * min(LONGEST, FIRST * 2 ** min(attempt, 20))
            left = seconds() if callable(seconds) else seconds - (time.monotonic() - started)
            if not passes(error) or pause > left:
                raise
        time.sleep(pause)
    raise AssertionError("unreachable")

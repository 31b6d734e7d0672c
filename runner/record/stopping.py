"""Stopping a sweep that another process runs, through a file beside it."""

from __future__ import annotations

import time

from r2d2.storage.store import Store
from runner.record.attempt import Attempt
from runner.record.lease import read_claim

_LOOK_S = 0.2


def stop_sweep(sweep: Store, within: float) -> str:
    """Asks the driver of a sweep to stop, and waits for its end.

    Args:
        sweep: where the sweep lies.
        within: seconds to wait.

    Returns:
        What came of it, in one sentence.

    Raises:
        ValueError: if no driver runs the sweep.
    """
    name = sweep.place.rpartition("/")[2]
    claim = read_claim(sweep)
    if claim is None or claim.is_over:
        raise ValueError(f"nothing runs the sweep '{name}'; r2d2 resume {name} would")
    Attempt(sweep.place, claim.number, sweep.timeout).ask_to_stop()
    until = time.monotonic() + within
    while time.monotonic() < until:
        now = read_claim(sweep)
        if now is not None and (now.number > claim.number or now.is_over):
            return f"The sweep '{name}' is stopped; r2d2 resume {name} continues it."
        time.sleep(_LOOK_S)
    return (
        f"{claim.owner} was asked to stop the sweep '{name}' and has not done so within {within:.0f} s; it "
        "ends as soon as it hears of it."
    )

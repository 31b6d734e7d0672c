"""Retrying: which trials of a sweep have failed, and forgetting what they came to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from runner.record.checkpoints import TRAIN_RUN
from runner.record.history import HISTORY
from runner.record.sweep import StoredSweep


def choose_failed(stored: StoredSweep, keys: Sequence[str] = ()) -> dict[str, str]:
    """The failed trials of a sweep and why they failed, by key.

    Args:
        stored: the sweep.
        keys: of those that are asked for; none: all.

    Raises:
        ValueError: if no trial failed, or one that is named did not.
    """
    failed = {t.key: reason for t in stored.trials() if (reason := stored.history(t).failure) is not None}
    others = [key for key in keys if key not in failed]
    if others or not failed:
        what = f"the trial '{others[0]}'" if others else "no trial"
        known = f"; failed ones: {', '.join(failed) or 'none'}" if others else ""
        raise ValueError(f"{what} of the sweep '{stored.name}' has {'not ' if others else ''}failed{known}")
    return {key: reason for key, reason in failed.items() if not keys or key in keys}


def forget(stored: StoredSweep, keys: Iterable[str]) -> None:
    """Removes the histories and checkpoints of trials, so that they start anew."""
    for trial in [trial for trial in stored.trials() if trial.key in set(keys)]:
        for name in (TRAIN_RUN, HISTORY):
            stored.trial_store(trial).delete_below(name)

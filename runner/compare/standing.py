"""Says how far a sweep's trials have come, and at which epoch their rows can be compared.

Rows that were trained for different numbers of epochs say nothing about their losses. A running sweep is
therefore compared at the last epoch that all rows have; a row that the scheduler stopped earlier is shown at
its own last epoch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """A Progress says how far one trial has come.

    Attributes:
        row: the row it belongs to.
        epochs: for how many it is to be trained; 0: a starting network.
        scored: the epochs that have the score in question.
        stopped: whether the scheduler has stopped it.
        failed: whether its last attempt failed.
    """

    row: str
    epochs: int
    scored: frozenset[int]
    stopped: bool = False
    failed: bool = False

    @property
    def is_complete(self) -> bool:
        """Says whether its last epoch is scored."""
        return self.epochs in self.scored

    @property
    def has_ended(self) -> bool:
        """Says whether it stays as it is unless somebody continues it."""
        return self.is_complete or self.stopped or self.failed


@dataclass(frozen=True)
class Standing:
    """A Standing says at which epoch each row is shown, and what a reader must know.

    Attributes:
        epochs: by row; rows without any score are not there.
        varied: whether the number of epochs is what rows were made to differ in.
        words: what a reader must know, a sentence; empty once all trials have ended alike.
    """

    epochs: Mapping[str, int]
    varied: bool
    words: str

    @classmethod
    def of(cls, trials: Sequence[Progress], total: int = 0) -> Standing:
        """Finds the standing of a sweep.

        Args:
            trials: those that were started, starting networks among them.
            total: how many trainings the sweep has; those that were started, if more.
        """
        trained = [trial for trial in trials if trial.epochs]
        rows: dict[str, list[Progress]] = {}
        for trial in trials:
            rows.setdefault(trial.row, []).append(trial)
        varied = len({trial.epochs for trial in trained}) > 1
        going = {
            name: _common(row)
            for name, row in rows.items()
            if row[0].epochs and _common(row) and not any(trial.stopped for trial in row)
        }
        together = set.intersection(*going.values()) if going and not varied else set()
        limit = max(together, default=None)
        epochs = {name: _shown(_common(row), limit if row[0].epochs else None) for name, row in rows.items()}
        known = {name: epoch for name, epoch in epochs.items() if epoch is not None}
        return cls(known, varied, _words(trained, max(total, len(trained)), known, limit))


def _common(row: Sequence[Progress]) -> set[int]:
    """Returns the epochs that the trials of a row have in common; all epochs if the scheduler stops trials.

    A failed trial does not limit the others.
    """
    scored = [trial for trial in row if trial.scored]
    alive = [trial for trial in scored if not trial.failed] or scored
    counts = Counter(epoch for trial in scored for epoch in trial.scored)
    wanted = len(alive) if any(trial.stopped for trial in row) else min(2, len(alive))
    return {epoch for epoch, count in counts.items() if count >= wanted}


def _shown(epochs: Iterable[int], limit: int | None) -> int | None:
    """Returns the last epoch up to the limit; if there is none, the row's last one."""
    ordered = sorted(epochs)
    return max((epoch for epoch in ordered if limit is None or epoch <= limit), default=None) or max(
        ordered, default=None
    )


def _words(trials: Sequence[Progress], total: int, epochs: Mapping[str, int], limit: int | None) -> str:
    ended = sum(trial.has_ended for trial in trials)
    missing = sum(epochs.get(trial.row) not in trial.scored for trial in trials)
    beyond = max((max(trial.scored, default=0) for trial in trials), default=0)
    parts = [f"{ended} of {total} trials ended"] if ended < total else []
    if limit is not None and beyond > limit:
        parts += [f"compared at epoch {limit}, the last that all rows have"]
    short = [name for name, epoch in epochs.items() if limit is not None and 0 < epoch < limit]
    if short:
        rows = "1 row was" if len(short) == 1 else f"{len(short)} rows were"
        parts += [f"{rows} stopped early by the scheduler and can have no verdict"]
    if missing:
        parts += [f"left out for want of a score: {missing} trial{'s' * (missing > 1)}"]
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""

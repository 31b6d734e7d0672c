"""Ending: how a trial ended, as its folder tells it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from runner.record.history import History
from search_spaces.sweep import Trial

INTERRUPTED = "interrupted; the same command continues it"

Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Ending:
    """How a trial ended.

    Attributes:
        status: as MLflow knows it.
        reason: of that status; None of a trial that was finished.
    """

    status: Status
    reason: str | None = None

    @property
    def word(self) -> str:
        """The status as a person reads it: what MLflow calls killed was stopped, or interrupted."""
        return "stopped" if self.status == "KILLED" else self.status.lower()


def stopped_early(epoch: int) -> Ending:
    """A scheduler stopped the trial."""
    return Ending("KILLED", f"stopped early by its score after epoch {epoch}")


def stored_ending(trial: Trial, history: History, roles: Collection[str]) -> Ending:
    """How a trial that nobody runs ended.

    Args:
        trial: of a sweep without a driver.
        history: of the trial.
        roles: the benchmarks that a complete trial was scored on.
    """
    if history.is_complete(trial.config.epochs, roles):
        return Ending("FINISHED")
    if history.stopped_after is not None:
        return stopped_early(history.stopped_after)
    if history.failure is not None:
        return Ending("FAILED", history.failure)
    return Ending("KILLED", INTERRUPTED)

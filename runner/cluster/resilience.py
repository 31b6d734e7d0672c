"""Defines Resilience: how trials handle lost workers and nodes. It changes no figure of a table."""

from __future__ import annotations

from dataclasses import dataclass

SILENCE_S = 600.0


@dataclass(frozen=True)
class Resilience:
    """A Resilience holds these settings for all trials of a sweep.

    Attributes:
        checkpoint_steps: a checkpoint after every so many steps of an epoch too; 0: after epochs only. So
            much is trained again at most when a worker is lost.
        min_workers: a trial goes on with at least so many of its workers, which compute the parts of the
            missing ones too; 0: it waits until it can have all of them.
        silence: seconds without a step, or another sign of life, after which a worker counts as hanging and
            all workers of its trial are started again; 0: never.
        max_restarts: how often workers may be lost without an epoch being trained in between, before the
            trial fails. Nodes that are taken away with notice do not count.
    """

    checkpoint_steps: int = 0
    min_workers: int = 0
    silence: float = SILENCE_S
    max_restarts: int = 2

    def __post_init__(self) -> None:
        """Refuses numbers below 0.

        Raises:
            ValueError: names the option.
        """
        for name, value in vars(self).items():
            if value < 0:
                raise ValueError(f"--{name.replace('_', '-')} is {value:g}; it must be at least 0")

    def fewest_workers(self, num_workers: int) -> int:
        """Returns with how many of its workers a trial starts at least."""
        return min(self.min_workers or num_workers, num_workers)

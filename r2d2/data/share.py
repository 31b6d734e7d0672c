"""Divides a step among workers.

A step is made of parts of `pairs_per_worker` pairs, as many as the configuration has workers. Queries,
distractors and batch statistics are those of a part, so the loss does not depend on how many workers there
are: a worker that replaces a missing worker computes its parts in turn and accumulates the gradients.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Share:
    """A Share says which parts of every step one worker computes.

    Attributes:
        parts: their numbers, from 0, in the order they are computed.
        of: parts of a step, over all workers.
        workers: how many workers share them.
    """

    parts: tuple[int, ...] = (0,)
    of: int = 1
    workers: int = 1

    def __post_init__(self) -> None:
        assert self.parts, "a worker without a part"
        assert all(0 <= part < self.of for part in self.parts), f"parts {self.parts} of {self.of}"

    @classmethod
    def of_worker(cls, rank: int, workers: int, of: int) -> Share:
        """Returns the share of worker `rank` of `workers` in steps of `of` parts: every `workers`-th part."""
        assert 0 <= rank < workers <= of, f"worker {rank} of {workers}, {of} parts"
        return cls(tuple(range(rank, of, workers)), of, workers)

    @property
    def weight(self) -> float:
        """Returns the factor of a part's gradient that makes the mean over workers the mean over parts."""
        return self.workers / self.of


ALONE = Share()

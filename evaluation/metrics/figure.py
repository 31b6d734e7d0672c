"""Defines the figures of a benchmark: what a number means, and how tables show it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# Of P pairs, each a PairScore: (P,), NaN or infinite where a pair has none; None if they were not computed.
Numbers = Callable[[Sequence[Any]], Floats | None]

# The last rank of the figures that are columns wherever scores are listed.
USUAL_RANK = 3


@dataclass(frozen=True)
class PairMetric:
    """A PairMetric is a number of every pair, whose mean over pairs is the figure.

    Attributes:
        key: as in `Evaluation.metrics`, e.g. `auc_5px_poselib`.
        numbers: of P pairs, (P,).
        title: of its row where `r2d2 evaluate` prints it; figures of one title share a row. Empty: it has
            none, as MMA, which has a table of its own.
        decimals: of the figure in that row.
        rank: which figures come first, from 1. Up to `USUAL_RANK` they are columns wherever scores are
            listed, beyond it in MLflow's list of runs only; None: in neither.
        is_share: whether it lies in [0, 1].
        smaller_is_better: true of errors.
        of_one_pair: whether the number says something of one pair: MLflow's table of pairs has it.
    """

    key: str
    numbers: Numbers
    title: str = ""
    decimals: int = 3
    rank: int | None = None
    is_share: bool = True
    smaller_is_better: bool = False
    of_one_pair: bool = True

    @property
    def highest(self) -> float:
        """Returns the largest value possible; the smallest is 0."""
        return 1.0 if self.is_share else np.inf


@dataclass(frozen=True)
class ImageFigure:
    """An ImageFigure is a mean over images, of `Evaluation.scalars`. Its attributes are as of PairMetric."""

    key: str
    title: str
    decimals: int = 3
    rank: int | None = None


def column(name: str, place: int | None = None) -> Numbers:
    """Reads an attribute of every pair, or one element of it; None unless all have it."""

    def numbers(pairs: Sequence[Any]) -> Floats | None:
        values = [getattr(pair, name) for pair in pairs]
        if any(value is None for value in values):
            return None
        return np.array([value if place is None else value[place] for value in values], dtype=np.float64)

    return numbers


def of_column(name: str, function: Callable[[Floats], Floats]) -> Numbers:
    """Computes numbers from an attribute of all pairs, (P,) to (P,)."""
    values = column(name)

    def numbers(pairs: Sequence[Any]) -> Floats | None:
        found = values(pairs)
        return None if found is None else function(found)

    return numbers

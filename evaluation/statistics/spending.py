"""Divides the chance of a false alarm among several looks at growing data.

Whoever tests at 5 % after every round of seeds is wrong in far more than 5 % of studies. A spending function
says how much of that chance may have been spent by a look: here alpha * t ** RHO, where t is the share of the
seeds that are there (Lan and DeMets, Discrete sequential boundaries for clinical trials, Biometrika 1983; Kim
and DeMets, Design and analysis of group sequential tests based on the type I error spending rate function,
Biometrika 1987). The level of each look follows from the levels before it, because the estimates of two looks
share data: their joint distribution is that of a Brownian motion, which is integrated from look to look
(Armitage, McPherson and Rowe, Repeated significance tests on accumulating data, J. R. Stat. Soc. A 1969).

The levels are compared with p-values of any test, here of Student's distribution (Jennison and Turnbull,
Group Sequential Methods with Applications to Clinical Trials, 2000). What estimates share beyond the seeds,
the sequences of the benchmark, makes looks more alike than assumed, and false alarms rarer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Between Pocock's nearly equal levels (1), which decide early, and O'Brien and Fleming's (3), which keep most
# of the chance for the end. Chosen by simulation.
RHO = 1.5

# Points of the grid on which the Brownian motion is integrated, and how many deviations it reaches down.
_POINTS, _DEVIATIONS = 801, 8.0


@lru_cache(maxsize=256)
def nominal_levels(alpha: float, times: tuple[float, ...]) -> tuple[float, ...]:
    """Computes the level of the two-sided test at each look: a false alarm at any look has the chance alpha.

    Args:
        alpha: in (0, 1).
        times: shares of all data that are there at the looks, ascending, in (0, 1].

    Returns:
        as many levels as looks.
    """
    return levels_of([alpha * time**RHO for time in times], times)


def levels_of(spent: Sequence[float], times: Sequence[float]) -> tuple[float, ...]:
    """Computes the two-sided levels for chances that may have been spent by each look.

    Args:
        spent: ascending, of the two sides together.
        times: as in `nominal_levels`.
    """
    from scipy.special import ndtr

    levels = []
    points, density, former, gone = np.zeros(1), np.ones(1), 0.0, 0.0
    for time, total in zip(times, spent, strict=True):
        step = (time - former) ** 0.5
        # One side: the motion crosses both bounds in one study with a chance that does not count.
        bound = _bound(points, density, step, (total - gone) / 2)
        levels.append(float(2 * ndtr(-bound / time**0.5)))
        grid = np.linspace(-_DEVIATIONS * time**0.5, bound, _POINTS)
        density = _moved(points, density, step, grid)
        points, former, gone = grid, time, total
    return tuple(levels)


def _bound(points: Floats, density: Floats, step: float, chance: float) -> float:
    """Where the motion, not stopped so far, is above after a step with the given chance."""
    from scipy.special import ndtr

    low, high = float(points[0]) - _DEVIATIONS * step, float(points[-1]) + _DEVIATIONS * step
    for _ in range(60):
        middle = (low + high) / 2
        above = float((density * ndtr((points - middle) / step)).sum())
        low, high = (middle, high) if above > chance else (low, middle)
    return high


def _moved(points: Floats, density: Floats, step: float, grid: Floats) -> Floats:
    """The chances of the places of `grid` after a step, by the trapezoid rule."""
    steps = (grid[:, None] - points[None]) / step
    arrived: Floats = np.exp(-(steps**2) / 2) @ density / (step * np.sqrt(2 * np.pi))
    widths = np.full(len(grid), grid[1] - grid[0])
    widths[[0, -1]] /= 2
    chances: Floats = arrived * widths
    return chances

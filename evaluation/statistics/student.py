"""Computes quantiles and tails of Student's distribution for many values at once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Student's distribution on a grid from 0 to 600,000 in steps of at most 0.35 %: beyond lies a millionth even
# of one degree of freedom.
GRID_END = 14.0
GRID = np.sinh(np.linspace(0, GRID_END, 4_000))


@lru_cache(maxsize=64)
def student_tails(degrees: float) -> Floats:
    """Computes the chances beyond the points of GRID; variants of a pool share their degrees, and the answer.

    Args:
        degrees: degrees of freedom, at least 1.

    Returns:
        (4000,), one for each point, in (0, 0.5].
    """
    from scipy.special import stdtr

    tails: Floats = stdtr(degrees, -GRID)
    return tails


def student_quantiles(degrees: Floats, count: int) -> Floats:
    """Cuts Student's distributions into `count` equally probable parts and returns the middle of each.

    They are not drawn at random, so that the tails, on which small p-values depend, are not left to chance.

    Args:
        degrees: (K,), degrees of freedom, at least 1.
        count: N, how many parts.

    Returns:
        (N, K), ascending.
    """
    # Imported here: scipy costs a tenth of a second, which the command line need not wait for.
    from scipy.special import stdtr

    middles = np.abs((np.arange(count) + 0.5) / count - 0.5)
    # Its own quantiles take ten times as long as these of a grid.
    above = np.stack([np.interp(middles, stdtr(one, GRID) - 0.5, GRID) for one in degrees], axis=1)
    quantiles: Floats = np.sign(np.arange(count) - (count - 1) / 2)[:, None] * above
    return quantiles

"""Draws sequences with replacement, for the bootstrap."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

REPLICATES = 9_999

# The same draws every time: a table that is made twice is the same table.
SEED = 20190828

# Silverman's rule for normal samples, in standard deviations.
_KERNEL = 1.06


@dataclass(frozen=True)
class Resampling:
    """A Resampling holds draws of n sequences with replacement; all variants are given the same draws.

    Attributes:
        counts: (replicates, n), how often each sequence was drawn.
        noise: (replicates, n), the sum of the normal noises of those draws of each sequence.
        noise_squared: (replicates,), the sum over the draws of the noises' squares.
    """

    counts: Floats
    noise: Floats
    noise_squared: Floats

    @property
    def replicates(self) -> int:
        """Returns how many times all sequences were drawn."""
        return len(self.counts)

    def studentised(self, values: Floats) -> Floats:
        """Computes the error of the mean in units of its standard error, each draw divided by its own.

        Args:
            values: (n, K), one value per sequence in each of K columns; n at least 2.

        Returns:
            errors: (replicates, K); the shape of `values` counts, not their mean and scale.
        """
        n = len(values)
        width = _KERNEL * n**-0.2
        spread = values.std(axis=0, ddof=1)
        # Mean and scale drop out of a studentised error; in these units one width of noise suits all columns.
        unit = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
        # Sums over the draws of (unit + width * noise) and of its square, without forming the draws.
        mean = (self.counts @ unit + width * self.noise.sum(axis=1, keepdims=True)) / n
        square = (
            self.counts @ unit**2 + 2 * width * (self.noise @ unit) + width**2 * self.noise_squared[:, None]
        )
        # The divisor is the standard error of that very draw.
        errors: Floats = mean / np.sqrt((square / n - mean**2) / (n - 1))
        return errors


@lru_cache(maxsize=4)
def resample(n: int, replicates: int = REPLICATES) -> Resampling:
    """Draws n of n sequences with replacement, `replicates` times; the same draws in every call."""
    rng = np.random.default_rng((SEED, n))
    # Each replicate has numbers of its own, so that one `bincount` counts all of them apart.
    drawn = rng.integers(n, size=(replicates, n)) + n * np.arange(replicates)[:, None]
    noise = rng.standard_normal((replicates, n))
    # These sums are all that `studentised` needs of the draws, for any number of columns.
    cells = replicates * n
    counts = np.bincount(drawn.ravel(), minlength=cells)
    sums = np.bincount(drawn.ravel(), weights=noise.ravel(), minlength=cells)
    return Resampling(
        counts.reshape(replicates, n).astype(np.float64),
        sums.reshape(replicates, n).astype(np.float64),
        (noise**2).sum(axis=1),
    )

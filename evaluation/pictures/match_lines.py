"""Match lines: which matches of a pair are drawn, in which order and colours."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# Told apart by people who do not tell red from green: Okabe and Ito's bluish green and vermilion.
CORRECT, WRONG = "#009e73", "#d55e00"

# A match is called correct up to this error, pixels: MMA@3 is the field's headline.
CORRECT_WITHIN = 3

# More lines than these hide the images.
MAX_LINES = 200


def drawn(total: int) -> npt.NDArray[np.int64]:
    """Indices of the matches that are drawn: all, or MAX_LINES of them, evenly chosen."""
    return np.linspace(0, total - 1, min(total, MAX_LINES)).astype(np.int64)


def coloured(errors: npt.NDArray[np.float64]) -> list[tuple[npt.NDArray[np.bool_], str]]:
    """Which matches have which colour, in the order of drawing: the wrong ones first, to hide no correct one.

    Args:
        errors: (K,), pixels.

    Returns:
        masks (K,) and colours.
    """
    correct = errors <= CORRECT_WITHIN
    return [(~correct, WRONG), (correct, CORRECT)]

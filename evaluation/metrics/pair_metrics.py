"""Lists the figures of a benchmark that are means of one number per pair, as a comparison needs them.

Every figure of `Evaluation.metrics` is one, under the same key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evaluation.metrics import homography, mma, repeatability
from evaluation.metrics.homography import ESTIMATORS
from evaluation.metrics.pair_score import PairScore
from r2d2.unknown import unknown

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PairMetric:
    """A PairMetric is a number of every pair, whose mean over pairs is the figure.

    Attributes:
        key: as in `Evaluation.metrics`, e.g. `auc_5px_poselib`.
        numbers: of P pairs, (P,); NaN or infinite where a pair has none; None if they were not computed.
        is_share: whether it lies in [0, 1].
        smaller_is_better: true of errors.
    """

    key: str
    numbers: Callable[[Sequence[PairScore]], Floats | None]
    is_share: bool = True
    smaller_is_better: bool = False

    @property
    def highest(self) -> float:
        """Returns the largest value possible; the smallest is 0."""
        return 1.0 if self.is_share else np.inf

    def of(self, pairs: Sequence[PairScore]) -> Floats:
        """Returns the numbers of P pairs, (P,), in their order; NaN where a pair has none.

        Raises:
            ValueError: if they were not computed.
        """
        numbers = self.numbers(pairs)
        if numbers is None:
            raise ValueError(
                f"{self.key} was not computed: the protocol leaves it out, or an earlier version did; "
                f"known of these pairs: {', '.join(_computed(pairs))}"
            )
        return np.where(np.isfinite(numbers), numbers, np.nan)


def auc_shares(errors: Floats, threshold: float) -> Floats:
    """Returns what each pair adds to the area under the curve of corner errors: AUC is their mean.

    The curve is that of SuperGlue's `pose_auc` and of glue-factory: it goes in straight lines from (0, 0)
    through the points (i-th smallest error, i / P) and is flat from the last one below the threshold. So it
    rises by 1 / P on the way from each error to the next larger one. The pair of the larger error is given
    the area to the right of that line; its number depends on one other pair.

    Args:
        errors: (P,), pixels; infinite for a pair without homography.
        threshold: pixels.

    Returns:
        shares: (P,) in [0, 1].
    """
    order = np.argsort(errors, kind="stable")
    ascending = errors[order]
    before = np.concatenate([[0.0], ascending[:-1]])
    below = ascending < threshold
    shares = np.zeros(len(errors))
    shares[order[below]] = 1 - (before[below] + ascending[below]) / (2 * threshold)
    return shares


def _column(name: str, index: int | None = None) -> Callable[[Sequence[PairScore]], Floats | None]:
    """An attribute of every pair, or an element of it; None unless all have it."""

    def numbers(pairs: Sequence[PairScore]) -> Floats | None:
        values = [getattr(pair, name) for pair in pairs]
        if any(value is None for value in values):
            return None
        return np.array([value if index is None else value[index] for value in values], dtype=np.float64)

    return numbers


def _corners(
    estimator: str, of_errors: Callable[[Floats, float], Floats], threshold: float
) -> Callable[[Sequence[PairScore]], Floats | None]:
    errors = _column(f"corner_error_{estimator}")

    def numbers(pairs: Sequence[PairScore]) -> Floats | None:
        found = errors(pairs)
        return None if found is None else of_errors(found, threshold)

    return numbers


def _within(errors: Floats, threshold: float) -> Floats:
    return (errors <= threshold).astype(np.float64)


def _all() -> list[PairMetric]:
    found = [PairMetric(f"mma_{t}px", _column("mma", i)) for i, t in enumerate(mma.THRESHOLDS)]
    for estimator in ESTIMATORS:
        for name, of_errors in (("mha", _within), ("auc", auc_shares)):
            found += [
                PairMetric(f"{name}_{t}px_{estimator}", _corners(estimator, of_errors, t))
                for t in homography.THRESHOLDS
            ]
    found += [PairMetric("inliers_poselib", _column("inliers_poselib"), is_share=False)]
    found += [
        PairMetric(f"repeatability_{t}px", _column("repeatability", i))
        for i, t in enumerate(repeatability.THRESHOLDS)
    ]
    return [
        *found,
        PairMetric(
            "localisation_error_px", _column("localisation_error"), is_share=False, smaller_is_better=True
        ),
        PairMetric("matching_score", _column("matching_score")),
        PairMetric("matches", _column("matches"), is_share=False),
    ]


PAIR_METRICS = {metric.key: metric for metric in _all()}


def _computed(pairs: Sequence[PairScore]) -> list[str]:
    """The keys of what was computed of pairs; of the curve of MMA its ends."""
    keys = [metric.key for metric in PAIR_METRICS.values() if metric.numbers(pairs) is not None]
    curve = [key for key in keys if key.startswith("mma_")]
    return [f"{curve[0]} to {curve[-1]}", *keys[len(curve) :]]


def find_pair_metric(key: str) -> PairMetric:
    """Finds the metric of a key.

    Raises:
        ValueError: for an unknown key; names the known ones.
    """
    if key not in PAIR_METRICS:
        raise ValueError(unknown("metric", key, PAIR_METRICS))
    return PAIR_METRICS[key]

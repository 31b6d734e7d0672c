"""The tables of an evaluation as MLflow shows them: MMA by threshold, and all that is known of a pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from evaluation.evaluation import Evaluation, PairScore
from evaluation.metrics.mma import THRESHOLDS
from evaluation.metrics.repeatability import THRESHOLDS as PLACE_THRESHOLDS
from runner.tracking.logged_table import LoggedTable

_Cell = Callable[[PairScore], Any]

_NAMES = ("sequence", "split", "image", "keypoints1", "keypoints2", "matches")

# What a protocol may leave out: its columns are there if a pair of the evaluation has it.
_OPTIONAL = {
    "corner_error_dlt": "corner_error_dlt_px",
    "corner_error_poselib": "corner_error_poselib_px",
    "inliers_poselib": "inliers_poselib",
    "localisation_error": "localisation_error_px",
    "matching_score": "matching_score",
    "coverage1": "coverage1",
    "coverage2": "coverage2",
}


def mma_table(evaluation: Evaluation) -> LoggedTable:
    """MMA at each threshold (pixels): overall, then each split that has pairs."""
    shares = {name: values.tolist() for name, values in evaluation.table().items()}
    rows = zip(THRESHOLDS, *shares.values(), strict=True)
    return LoggedTable(("threshold", *shares), tuple(rows))


def pair_table(evaluation: Evaluation) -> LoggedTable:
    """One row per pair: sequence, split, image, counts, MMA at 1 to 15 pixels, and what else was computed.

    A corner error is infinite without a homography, a localisation error not a number without a keypoint that
    was found again: null in the table.
    """
    cells = _cells(evaluation)
    rows = tuple(tuple(cell(pair) for cell in cells.values()) for pair in evaluation.pairs)
    return LoggedTable(tuple(cells), rows)


def _cells(evaluation: Evaluation) -> dict[str, _Cell]:
    """What each column shows of a pair."""
    cells = {name: _attribute(name) for name in _NAMES}
    cells |= {f"mma_{threshold}px": _element("mma", i) for i, threshold in enumerate(THRESHOLDS)}
    if any(pair.repeatability is not None for pair in evaluation.pairs):
        cells |= {
            f"repeatability_{threshold}px": _element("repeatability", i)
            for i, threshold in enumerate(PLACE_THRESHOLDS)
        }
    for name, column in _OPTIONAL.items():
        if any(getattr(pair, name) is not None for pair in evaluation.pairs):
            cells[column] = _attribute(name)
    return cells


def _attribute(name: str) -> _Cell:
    return lambda pair: getattr(pair, name)


def _element(name: str, index: int) -> _Cell:
    def cell(pair: PairScore) -> float | None:
        values = getattr(pair, name)
        return None if values is None else float(values[index])

    return cell

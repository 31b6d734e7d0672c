"""Scores a pair of images, and lists the metrics that are means of such scores: to add one, edit this file.

Every figure of `Evaluation.metrics` is in `PAIR_METRICS`, under the same key. The tables on the terminal, on
the page and in MLflow take keys, titles, decimals and order from here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evaluation.benchmarks.hpatches import Homography, Split, split_of
from evaluation.metrics import homography, mma, repeatability
from evaluation.metrics.figure import ImageFigure, PairMetric, column, of_column
from evaluation.metrics.homography import Estimator, auc_shares, corner_error, within
from evaluation.metrics.repeatability import Overlap, Points, coverage, equal_budget, overlap
from r2d2.formats.stored_json import typed
from r2d2.unknown import unknown

if TYPE_CHECKING:
    from evaluation.metrics.matching import IndexPairs
    from r2d2.containers import Keypoints

Floats = npt.NDArray[np.float64]

# Numbers that may be missing: they are null in JSON, which has neither infinity nor NaN.
_MISSING = {"corner_error_dlt": math.inf, "corner_error_poselib": math.inf, "localisation_error": math.nan}
# Of the fields that hold a number per threshold, the thresholds.
_THRESHOLDS = {"mma": mma.THRESHOLDS, "repeatability": repeatability.THRESHOLDS}


@dataclass(frozen=True)
class PairScore:
    """A PairScore holds the figures of one pair (1, k). What is None was not computed.

    Attributes:
        sequence: its name.
        split: of the sequence.
        image: k, 2 to 6.
        keypoints1, keypoints2: how many were found in image 1 and in image k.
        matches: how many mutual nearest neighbours.
        mma: 15 shares of the matches with an error of at most 1 to 15 pixels.
        repeatability: two shares, at 1 and 3 pixels, of equally many keypoints.
        corner_error_dlt, corner_error_poselib: of the estimated homographies, pixels of image k; infinite if
            there is none.
        inliers_poselib: how many matches support the robust homography, 0 if there is none.
        localisation_error: pixels; NaN if no keypoint was found again.
        matching_score: share of the keypoints in the shared area that are matched correctly.
        coverage1, coverage2: shares of the two images with keypoints.
    """

    sequence: str
    split: Split | None
    image: int
    keypoints1: int
    keypoints2: int
    matches: int
    mma: tuple[float, ...]
    repeatability: tuple[float, ...] | None = None
    corner_error_dlt: float | None = None
    corner_error_poselib: float | None = None
    inliers_poselib: int | None = None
    localisation_error: float | None = None
    matching_score: float | None = None
    coverage1: float | None = None
    coverage2: float | None = None

    def columns(self) -> dict[str, Any]:
        """Returns every field by its name in a table of pairs: one per threshold, `_px` after errors."""
        found: dict[str, Any] = {}
        for name, value in vars(self).items():
            if name in _THRESHOLDS:
                numbers = value or [None] * len(_THRESHOLDS[name])
                found |= {f"{name}_{t}px": n for t, n in zip(_THRESHOLDS[name], numbers, strict=True)}
            else:
                found[f"{name}_px" if "error" in name else name] = value
        return found

    def to_json(self) -> dict[str, Any]:
        """Returns what `json.dumps` takes, without what was not computed; infinity and NaN become null.

        The split is left out: it follows from the sequence's name.
        """
        values = {key: value for key, value in asdict(self).items() if value is not None and key != "split"}
        return {key: _to_json(value) for key, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PairScore:
        """Reads what `to_json` returned, or an earlier version that knew fewer numbers.

        Raises:
            KeyError, TypeError, ValueError: if a number is missing or none, or if there are not 15 shares.
        """
        wanted = [one.name for one in fields(cls) if one.name in values or one.default is MISSING]
        found = {name: _from_json(name, values[name]) for name in wanted if name != "split"}
        pair = typed(cls, found | {"split": split_of(values["sequence"])})
        if len(pair.mma) != len(mma.THRESHOLDS):
            raise ValueError(f"a pair has {len(pair.mma)} shares; it must have {len(mma.THRESHOLDS)}")
        return pair


def _to_json(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return _MISSING.get(name) if value is None else value


def score_pair(
    name: str,
    image: int,
    keypoints: tuple[Keypoints, Keypoints],
    homography_1to2: Homography,
    matches: IndexPairs,
    errors: Floats,
    estimators: tuple[Estimator, ...],
) -> PairScore:
    """Computes all metrics of the pair (1, image) of a sequence.

    Args:
        name: of the sequence.
        image: k; the pair is (1, k).
        keypoints: of image 1 and of image k, best first, in pixels of the images as scored.
        homography_1to2: (3, 3), between the same pixels.
        matches: (K, 2), indices into both.
        errors: (K,), pixels of image k.
        estimators: each estimates a homography.
    """
    first, second = keypoints
    corners: dict[str, Any] = {}
    for one in estimators:
        found = one.estimate(first.keypoints, second.keypoints, matches)
        error = corner_error(found.homography_1to2, homography_1to2, *first.image_size)
        corners[f"corner_error_{one.name}"] = error
        if found.inliers is not None:
            corners[f"inliers_{one.name}"] = found.inliers

    def overlap_of(points1: Points, points2: Points) -> Overlap:
        return overlap(points1, points2, homography_1to2, first.image_size, second.image_size)

    # Matched are all keypoints, compared are equally many.
    matched = compared = overlap_of(first.keypoints, second.keypoints)
    if len(first) != len(second):
        compared = overlap_of(*equal_budget(first.keypoints, second.keypoints))
    localisation = repeatability.localisation_error(compared)
    return PairScore(
        sequence=name,
        split=split_of(name),
        image=image,
        keypoints1=len(first),
        keypoints2=len(second),
        matches=len(matches),
        mma=tuple(mma.mma(errors).tolist()),
        repeatability=tuple(repeatability.repeatability(compared).tolist()),
        # One NaN for all, so that pairs read back are equal to those written.
        localisation_error=math.nan if math.isnan(localisation) else localisation,
        matching_score=repeatability.matching_score(matched, matches, errors),
        coverage1=coverage(first.keypoints, first.image_size),
        coverage2=coverage(second.keypoints, second.image_size),
        **corners,
    )


def _of_corners(estimator: str, label: str) -> list[PairMetric]:
    """MHA and AUC; a table of pairs shows the corner errors themselves."""
    errors, at = f"corner_error_{estimator}", "/".join(map(str, homography.THRESHOLDS))
    return [
        PairMetric(
            key=f"{name}_{t}px_{estimator}",
            numbers=of_column(errors, partial(of_errors, threshold=t)),
            title=f"{name.upper()}@{at}, {label}",
            rank=4 if (name, t, estimator) == ("auc", 5, "poselib") else None,
            of_one_pair=False,
        )
        for name, of_errors in (("mha", within), ("auc", auc_shares))
        for t in homography.THRESHOLDS
    ]


PAIR_METRICS = {
    metric.key: metric
    for metric in (
        *(
            PairMetric(f"mma_{t}px", column("mma", place), rank={3: 1, 1: 2, 5: 3}.get(t))
            for place, t in enumerate(mma.THRESHOLDS)
        ),
        *_of_corners("dlt", "DLT"),
        *_of_corners("poselib", "PoseLib"),
        PairMetric(
            "inliers_poselib", column("inliers_poselib"), "inliers of PoseLib per pair", 0, is_share=False
        ),
        *(
            PairMetric(f"repeatability_{t}px", column("repeatability", place), "repeatability@1/3", rank=rank)
            for place, (t, rank) in enumerate(zip(repeatability.THRESHOLDS, (None, 5), strict=True))
        ),
        PairMetric(
            key="localisation_error_px",
            numbers=column("localisation_error"),
            title="localisation error, px",
            is_share=False,
            smaller_is_better=True,
        ),
        PairMetric("matching_score", column("matching_score"), "matching score"),
        PairMetric("matches", column("matches"), "matches per pair", 0, is_share=False),
    )
}
IMAGE_FIGURES = (
    ImageFigure("keypoints", "keypoints per image", 0, rank=6),
    ImageFigure("keypoints_at_cap", "images with as many keypoints as allowed"),
    ImageFigure("coverage", "share of the image with keypoints"),
)


def ranked(most: float = math.inf) -> list[str]:
    """Returns the keys of the figures that come first, in the order of their ranks, up to rank `most`."""
    figures: tuple[PairMetric | ImageFigure, ...] = (*PAIR_METRICS.values(), *IMAGE_FIGURES)
    found = [(one.rank, one.key) for one in figures if one.rank is not None and one.rank <= most]
    return [key for _, key in sorted(found, key=itemgetter(0))]


def find_pair_metric(key: str) -> PairMetric:
    """Finds the metric of a key.

    Raises:
        ValueError: for an unknown key; names the known ones.
    """
    if key not in PAIR_METRICS:
        raise ValueError(unknown("metric", key, PAIR_METRICS))
    return PAIR_METRICS[key]


def numbers_of(metric: PairMetric, pairs: Sequence[PairScore]) -> Floats:
    """Returns a metric's numbers of P pairs, (P,), in their order; NaN where a pair has none.

    Raises:
        ValueError: if they were not computed.
    """
    numbers = metric.numbers(pairs)
    if numbers is not None:
        return np.where(np.isfinite(numbers), numbers, np.nan)
    known = [one.key for one in PAIR_METRICS.values() if one.numbers(pairs) is not None]
    curve = [key for key in known if key.startswith("mma_")]
    raise ValueError(
        f"{metric.key} was not computed: the protocol leaves it out, or an earlier version did; "
        f"known of these pairs: {', '.join([f'{curve[0]} to {curve[-1]}', *known[len(curve) :]])}"
    )

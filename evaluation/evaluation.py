"""Defines Evaluation: the scores of one model on one benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.benchmarks.hpatches import SPLITS, Split
from evaluation.metrics.pair_metrics import PAIR_METRICS, PairScore
from evaluation.pictures.examples import MatchExample
from evaluation.protocols import Protocol
from r2d2.collapse import CollapseSigns
from r2d2.formats.stored_json import typed

__all__ = ["OVERALL", "SCALAR_THRESHOLDS", "Evaluation", "PairScore", "Timings"]

Floats = npt.NDArray[np.float64]

OVERALL = "overall"

# Of the 15 thresholds those that go into the metrics of a run; the table has them all.
SCALAR_THRESHOLDS = (1, 3, 5, 6, 10)


@dataclass(frozen=True)
class Timings:
    """Timings are the seconds spent, reading images not counted.

    Attributes:
        extraction: on all images together; of reused predictions, what it took when they were made.
        matching: on all pairs together, the errors of the matches included.
        metrics: on all pairs together: homographies, repeatability, shares.
        reused: how many images had predictions already.
    """

    extraction: float
    matching: float
    metrics: float = 0.0
    reused: int = 0


@dataclass(frozen=True)
class Evaluation:
    """An Evaluation holds the scores of one model on one benchmark by one protocol.

    Attributes:
        model, model_digest: which network; the digest covers its weights and its shape.
        protocol: how it was scored.
        benchmark, benchmark_digest: on what; the digest covers the images and the homographies.
        pairs: at least one, in the order of the benchmark.
        timings: where the time went.
        collapse: signs of collapse; None of features without a network.
        arithmetic: in which the keypoints were computed, see `r2d2.extraction.keypoints.arithmetic`.
        warnings: what was repaired in the input or is doubtful, one sentence per kind.
        examples: pairs to look at; not part of the JSON.
    """

    model: str
    model_digest: str
    protocol: Protocol
    benchmark: str
    benchmark_digest: str
    pairs: tuple[PairScore, ...]
    timings: Timings
    collapse: CollapseSigns | None
    arithmetic: str = "float32"
    warnings: tuple[str, ...] = field(default=(), compare=False)
    examples: tuple[MatchExample, ...] = ()

    def __post_init__(self) -> None:
        if not self.pairs:
            raise ValueError("an evaluation has no pairs")

    @property
    def splits(self) -> tuple[Split, ...]:
        """Returns the splits that have pairs here."""
        return tuple(split for split in SPLITS if any(pair.split == split for pair in self.pairs))

    def mma(self, split: Split | None = None) -> Floats:
        """Averages the shares of the pairs of one split, or of all pairs: (15,) in [0, 1], at 1 to 15 pixels.

        Raises:
            ValueError: if the benchmark has no pair of that split.
        """
        shares = [pair.mma for pair in self.pairs if split is None or pair.split == split]
        if not shares:
            raise ValueError(f"benchmark {self.benchmark} has no {split or ''} pairs")
        mean: Floats = np.mean(shares, axis=0)
        return mean

    def table(self) -> dict[str, Floats]:
        """Returns MMA at 1 to 15 pixels, (15,) each in [0, 1]: `overall`, then each split that has pairs."""
        return {OVERALL: self.mma()} | {split: self.mma(split) for split in self.splits}

    def metrics(self, split: Split | None = None) -> dict[str, float]:
        """Returns the metrics of one split or of all pairs, by name; those that were not computed are absent.

        `mma_3px` and so on (1, 3, 5, 6, 10 pixels); `mha_3px_dlt`, `auc_3px_dlt`, the same with `_poselib`
        (1, 3, 5); `inliers_poselib` (mean per pair); `repeatability_1px`, `repeatability_3px`;
        `localisation_error_px`, of the pairs that have one; `matching_score`; `matches` (mean per pair).
        """
        shares = self.mma(split)
        values = {f"mma_{t}px": float(shares[t - 1]) for t in SCALAR_THRESHOLDS}
        pairs = [pair for pair in self.pairs if split is None or pair.split == split]
        # Every other figure is a mean over pairs: a new `PairMetric` needs no line here.
        for key, metric in PAIR_METRICS.items():
            numbers = None if key.startswith("mma_") else metric.numbers(pairs)
            if numbers is not None and not np.isnan(numbers).all():
                values[key] = float(np.nanmean(numbers))
        return values

    def scalars(self) -> dict[str, float]:
        """Returns the figures that are logged for a scored model; equal models have equal figures.

        They are those of `metrics`, with the name of a split after the key (`mma_3px_viewpoint`; the number
        of matches only over all pairs), `keypoints` (mean per image), `coverage` (the same) and the signs of
        collapse. `keypoints_at_cap`, the share of images with exactly `top_k` keypoints, says something only
        under a protocol with thresholds.
        """
        values = self.metrics()
        for split in self.splits:
            values |= {f"{key}_{split}": v for key, v in self.metrics(split).items() if key != "matches"}
        counts = np.array(list(self._keypoints_by_image().values()))
        values["keypoints"] = float(counts.mean())
        covered = self._coverage_by_image()
        if covered:
            values["coverage"] = float(np.mean(list(covered.values())))
        if self.protocol.extraction.top_k is not None:
            values["keypoints_at_cap"] = float((counts == self.protocol.extraction.top_k).mean())
        return values | (asdict(self.collapse) if self.collapse is not None else {})

    def _keypoints_by_image(self) -> dict[tuple[str, int], int]:
        first = {(pair.sequence, 1): pair.keypoints1 for pair in self.pairs}
        return first | {(pair.sequence, pair.image): pair.keypoints2 for pair in self.pairs}

    def _coverage_by_image(self) -> dict[tuple[str, int], float]:
        """Empty unless it was computed for all pairs."""
        covered: dict[tuple[str, int], float] = {}
        for pair in self.pairs:
            if pair.coverage1 is None or pair.coverage2 is None:
                return {}
            covered |= {(pair.sequence, 1): pair.coverage1, (pair.sequence, pair.image): pair.coverage2}
        return covered

    def to_json(self) -> dict[str, Any]:
        """Returns everything but the examples as what `json.dumps` takes; `from_json` is its inverse."""
        return {
            "model": self.model,
            "model_digest": self.model_digest,
            **self.protocol.to_json(),
            "arithmetic": self.arithmetic,
            "benchmark": self.benchmark,
            "benchmark_digest": self.benchmark_digest,
            "timings": asdict(self.timings),
            "collapse": None if self.collapse is None else asdict(self.collapse),
            "warnings": list(self.warnings),
            "summary": {"mma": {name: s.tolist() for name, s in self.table().items()}, **self.scalars()},
            "pairs": [pair.to_json() for pair in self.pairs],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Evaluation:
        """Reads what `to_json` gave, or an earlier version; the summary is computed again, not read.

        Raises:
            ValueError: if a part is missing or does not fit.
        """
        try:
            return cls(
                model=str(values["model"]),
                model_digest=str(values["model_digest"]),
                protocol=Protocol.from_json(values),
                benchmark=str(values["benchmark"]),
                benchmark_digest=str(values["benchmark_digest"]),
                pairs=tuple(PairScore.from_json(pair) for pair in values["pairs"]),
                timings=typed(Timings, values["timings"]),
                collapse=None if values["collapse"] is None else typed(CollapseSigns, values["collapse"]),
                arithmetic=str(values.get("arithmetic", "float32")),
                warnings=tuple(str(warning) for warning in values.get("warnings", ())),
            )
        except KeyError as error:
            raise ValueError(f"this is no stored evaluation: it lacks {error}") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"this is no stored evaluation: {error}") from error

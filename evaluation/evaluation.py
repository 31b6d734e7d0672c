"""Evaluation: what the judge says of one model on one benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evaluation.collapse import CollapseSigns
from evaluation.examples import MatchExample, save_examples
from evaluation.hpatches import SPLITS, Split, split_of
from evaluation.mma import THRESHOLDS
from evaluation.protocols import Protocol
from r2d2.keypoints import ExtractionSettings

Floats = npt.NDArray[np.float64]

OVERALL = "overall"

# Of the 15 thresholds those that go into the metrics of a run; the table has them all.
SCALAR_THRESHOLDS = (1, 3, 5, 10)


@dataclass(frozen=True)
class PairScore:
    """The score of one pair (1, k).

    Attributes:
        sequence: its name.
        split: of the sequence.
        image: k, 2 to 6.
        keypoints1, keypoints2: how many were found in image 1 and in image k.
        matches: how many mutual nearest neighbours.
        mma: 15 shares of the matches with an error of at most 1 to 15 pixels.
    """

    sequence: str
    split: Split | None
    image: int
    keypoints1: int
    keypoints2: int
    matches: int
    mma: tuple[float, ...]


@dataclass(frozen=True)
class Timings:
    """Seconds spent, reading images not counted.

    Attributes:
        extraction: on all images together.
        matching: on all pairs together, errors and shares included.
    """

    extraction: float
    matching: float


@dataclass(frozen=True)
class Evaluation:
    """The scores of one model on one benchmark by one protocol.

    Attributes:
        model, model_digest: which network; the digest covers its weights and its shape.
        protocol: how it was judged.
        benchmark, benchmark_digest: on what; the digest covers the images and the homographies.
        pairs: at least one, in the order of the benchmark.
        timings: where the time went.
        collapse: signs of collapse.
        examples: pairs to look at; not part of the JSON.
    """

    model: str
    model_digest: str
    protocol: Protocol
    benchmark: str
    benchmark_digest: str
    pairs: tuple[PairScore, ...]
    timings: Timings
    collapse: CollapseSigns
    examples: tuple[MatchExample, ...] = ()

    def __post_init__(self) -> None:
        if not self.pairs:
            raise ValueError("an evaluation has no pairs")

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that have pairs here."""
        return tuple(split for split in SPLITS if any(pair.split == split for pair in self.pairs))

    def mma(self, split: Split | None = None) -> Floats:
        """Mean over pairs of the 15 shares, of one split or of all pairs.

        Raises:
            ValueError: if the benchmark has no pair of that split.
        """
        shares = [pair.mma for pair in self.pairs if split is None or pair.split == split]
        if not shares:
            raise ValueError(f"benchmark {self.benchmark} has no {split or ''} pairs")
        mean: Floats = np.mean(shares, axis=0)
        return mean

    def table(self) -> dict[str, Floats]:
        """MMA at 1 to 15 pixels: `overall`, then each split that has pairs."""
        return {OVERALL: self.mma()} | {split: self.mma(split) for split in self.splits}

    def scalars(self) -> dict[str, float]:
        """The numbers a run is followed by; the same whenever the same model is scored (no timings).

        `mma_3px`, `mma_3px_viewpoint` and so on (1, 3, 5, 10 pixels), `keypoints` (mean per image),
        `matches` (mean per pair) and the signs of collapse. `keypoints_at_cap`, the share of images with
        exactly `top_k` keypoints, says something only under a protocol with thresholds.
        """
        values: dict[str, float] = {}
        for split, shares in self.table().items():
            suffix = "" if split == OVERALL else f"_{split}"
            values |= {f"mma_{t}px{suffix}": float(shares[t - 1]) for t in SCALAR_THRESHOLDS}
        counts = np.array(list(self._keypoints_by_image().values()))
        values["keypoints"] = float(counts.mean())
        values["matches"] = float(np.mean([pair.matches for pair in self.pairs]))
        if self.protocol.extraction.top_k is not None:
            values["keypoints_at_cap"] = float((counts == self.protocol.extraction.top_k).mean())
        return values | asdict(self.collapse)

    def _keypoints_by_image(self) -> dict[tuple[str, int], int]:
        first = {(pair.sequence, 1): pair.keypoints1 for pair in self.pairs}
        return first | {(pair.sequence, pair.image): pair.keypoints2 for pair in self.pairs}

    def to_json(self) -> dict[str, Any]:
        """Everything but the examples, as what `json.dumps` takes; `from_json` is its inverse."""
        return {
            "model": self.model,
            "model_digest": self.model_digest,
            "protocol": self.protocol.name,
            "settings": asdict(self.protocol.extraction),
            "benchmark": self.benchmark,
            "benchmark_digest": self.benchmark_digest,
            "timings": asdict(self.timings),
            "collapse": asdict(self.collapse),
            "summary": {"mma": {name: s.tolist() for name, s in self.table().items()}, **self.scalars()},
            "pairs": [_pair_to_json(pair) for pair in self.pairs],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Evaluation:
        """Reads what `to_json` gave; the summary is computed again, not read.

        Raises:
            ValueError: if a part is missing or does not fit.
        """
        try:
            return cls(
                model=str(values["model"]),
                model_digest=str(values["model_digest"]),
                protocol=Protocol(str(values["protocol"]), ExtractionSettings(**values["settings"])),
                benchmark=str(values["benchmark"]),
                benchmark_digest=str(values["benchmark_digest"]),
                pairs=tuple(_pair_from_json(pair) for pair in values["pairs"]),
                timings=Timings(**values["timings"]),
                collapse=CollapseSigns(**values["collapse"]),
            )
        except KeyError as error:
            raise ValueError(f"this is no stored evaluation: it lacks {error}") from None
        except (TypeError, ValueError) as error:
            raise ValueError(f"this is no stored evaluation: {error}") from error

    def save_examples(self, path: Path) -> None:
        """Writes the examples beside the JSON; `evaluation.examples.load_examples` reads them."""
        save_examples(path, self.examples)


def _pair_to_json(pair: PairScore) -> dict[str, Any]:
    """Without the split, which follows from the sequence's name."""
    values = asdict(pair) | {"mma": list(pair.mma)}
    del values["split"]
    return values


def _pair_from_json(values: Mapping[str, Any]) -> PairScore:
    counts = {key: int(values[key]) for key in ("image", "keypoints1", "keypoints2", "matches")}
    shares = tuple(float(share) for share in values["mma"])
    if len(shares) != len(THRESHOLDS):
        raise ValueError(f"a pair has {len(shares)} shares; it must have {len(THRESHOLDS)}")
    sequence = str(values["sequence"])
    return PairScore(sequence, split_of(sequence), mma=shares, **counts)

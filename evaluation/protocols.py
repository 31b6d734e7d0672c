"""Defines protocols: the settings of scoring that two comparable numbers share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from evaluation.metrics import homography, mma, repeatability
from evaluation.metrics.homography import DLT, POSELIB, Estimator
from r2d2.extraction.settings import FASTEST, PRECISIONS, ExtractionSettings

MUTUAL_NEAREST_NEIGHBOURS = "mutual_nearest_neighbours"

# Hexadecimal digits of a digest that are shown.
SHOWN_DIGITS = 8

SHORT = ("bfloat16", "float16")
_FLOAT32 = ExtractionSettings(precision="float32")


@dataclass(frozen=True)
class Protocol:
    """A Protocol says how features are scored, under a name and a digest that go with every number.

    All pixels of a protocol, those of thresholds and errors, are pixels of the images as it resizes them: of
    the original images where `shorter_side` is None. Errors of matches and of corners are measured in image 2
    (image k of a pair), localisation errors and repeatability in both. The arithmetic of extraction is part
    of a protocol, so that a score does not depend on the machine that computed it.

    Attributes:
        name: says which agreement it is; not part of the digest.
        extraction: how a network extracts keypoints; of features made elsewhere the `top_k` best count.
        shorter_side: of the resized images, pixels; None leaves the images as they are.
        matcher: only mutual nearest neighbours by dot product, without a ratio test.
        estimators: of homographies; none leaves MHA and AUC out.
    """

    name: str
    extraction: ExtractionSettings
    shorter_side: int | None = None
    matcher: str = MUTUAL_NEAREST_NEIGHBOURS
    estimators: tuple[Estimator, ...] = (DLT, POSELIB)

    def __post_init__(self) -> None:
        """Refuses what means nothing, or not the same on every machine.

        Raises:
            ValueError: says what, and what is allowed.
        """
        if self.extraction.precision == FASTEST and not self.extraction.exact:
            raise ValueError(
                f"precision is {FASTEST}, another arithmetic on each machine; a protocol fixes it: "
                f"{', '.join(PRECISIONS[1:-1])} or {PRECISIONS[-1]}"
            )
        if self.shorter_side is not None and self.shorter_side < 32:
            raise ValueError(f"shorter_side is {self.shorter_side} pixels; it must be at least 32")
        if self.matcher != MUTUAL_NEAREST_NEIGHBOURS:
            raise ValueError(f"unknown matcher '{self.matcher}'; known: {MUTUAL_NEAREST_NEIGHBOURS}")

    @property
    def definition(self) -> dict[str, Any]:
        """Returns all that a number depends on but features and images, as what `json.dumps` takes.

        Float32 is not named: what was scored in it before there was a choice has the same digest.
        """
        extraction = asdict(self.extraction)
        if self.extraction.exact or self.extraction.precision == "float32":
            del extraction["precision"]
        return {
            "images": {"shorter_side": self.shorter_side},
            "extraction": extraction,
            "matcher": self.matcher,
            "thresholds_px": {
                "mma": list(mma.THRESHOLDS),
                "homography": list(homography.THRESHOLDS),
                "repeatability": list(repeatability.THRESHOLDS),
                "localisation_error": repeatability.WITHIN,
                "matching_score": repeatability.WITHIN,
            },
            "coverage_cells": repeatability.CELLS,
            "estimators": {estimator.name: asdict(estimator) for estimator in self.estimators},
        }

    @cached_property
    def digest(self) -> str:
        """Returns the SHA-256 of the definition as JSON with sorted keys; equal digests can be compared."""
        text = json.dumps(self.definition, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def title(self) -> str:
        """Returns name and shortened digest, for titles: `d2net (1a2b3c4d)`."""
        return f"{self.name} ({self.digest[:SHOWN_DIGITS]})"

    def with_extraction(self, extraction: ExtractionSettings) -> Protocol:
        """Returns this protocol with other settings; the name says what differs, e.g. `d2net[top_k=1000]`."""
        mine, other = asdict(self.extraction), asdict(extraction)
        changes = [f"{key}={_shown(value)}" for key, value in other.items() if value != mine[key]]
        name = f"{self.name}[{','.join(changes)}]"
        return replace(self, name=name, extraction=extraction) if changes else self

    def to_json(self) -> dict[str, Any]:
        """Returns the keys of a stored evaluation; `from_json` is the inverse."""
        return {
            "protocol": self.name,
            "protocol_digest": self.digest,
            "settings": asdict(self.extraction),
            "protocol_settings": {
                "shorter_side": self.shorter_side,
                "matcher": self.matcher,
                "estimators": [asdict(estimator) for estimator in self.estimators],
            },
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Protocol:
        """Reads what `to_json` returned. The digest is computed again, so that a setting added since counts.

        Evaluations stored before protocols had estimators carry name and extraction only; the rest is what
        the protocol of that name says today. Extraction was exact before it was a setting. Its precision was
        that of the device, which the evaluation names: a score in 16 bits is one of another protocol.
        """
        name = str(values["protocol"])
        extraction = ExtractionSettings(**{"exact": True, "precision": "float32", **values["settings"]})
        if "precision" not in values["settings"] and (bits := values.get("arithmetic")) in SHORT:
            name, extraction = f"{name}[precision={bits}]", replace(extraction, precision=str(bits))
        if "protocol_settings" not in values:
            usual = PROTOCOLS.get(name.partition("[")[0])
            return replace(usual, name=name, extraction=extraction) if usual else cls(name, extraction)
        rest = dict(values["protocol_settings"])
        estimators = tuple(Estimator(**estimator) for estimator in rest.pop("estimators"))
        return cls(name, extraction, estimators=estimators, **rest)


def _shown(value: object) -> str:
    if value is None:
        return "all"
    return value if isinstance(value, str) else f"{value:g}"


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        # HPatches as in the tables of D2-Net, R2D2 and DISK, at most 1024 pixels.
        Protocol("d2net", _FLOAT32),
        # The same at full resolution, down to 0.3 of it: about 3 points of MMA more.
        Protocol("d2net-full", _FLOAT32.full_resolution()),
        # HPatches as in glue-factory: shorter side 480, the best 1024 without thresholds. Its images are
        # resized by Pillow (bilinear with antialiasing); glue-factory's own resizing differs by a grey level.
        Protocol(
            "glue-factory-480",
            replace(_FLOAT32, top_k=1024, min_reliability=0.0, min_repeatability=0.0),
            shorter_side=480,
        ),
        # Ranks networks early in training, when few pixels pass a threshold, on images of 384 x 256: the best
        # k without thresholds, on a pyramid of seven levels (min_size would leave only three). Robust
        # homographies are left out: they cost more than the rest of a pair's scoring together, most of all
        # where most matches are wrong, as early in training.
        Protocol(
            "validation",
            replace(
                _FLOAT32,
                top_k=1000,
                min_size=0,
                min_scale=0.3,
                min_reliability=0.0,
                min_repeatability=0.0,
                exact=True,
            ),
            estimators=(DLT,),
        ),
    )
}

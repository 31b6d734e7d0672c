"""Protocols: the agreements that make two numbers comparable."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from r2d2.keypoints import ExtractionSettings


@dataclass(frozen=True)
class Protocol:
    """How a network is judged: how keypoints are extracted, under a name that goes with every number.

    Matching (mutual nearest neighbours) and the errors (one-sided, in original pixels) are the same in all.
    """

    name: str
    extraction: ExtractionSettings

    def with_extraction(self, extraction: ExtractionSettings) -> Protocol:
        """This protocol with other settings; the name says what differs, e.g. `d2net[top_k=1000]`."""
        mine, other = asdict(self.extraction), asdict(extraction)
        changes = [
            f"{key}={value:g}" if value is not None else f"{key}=all"
            for key, value in other.items()
            if value != mine[key]
        ]
        return Protocol(f"{self.name}[{','.join(changes)}]", extraction) if changes else self


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        # HPatches as in the tables of D2-Net, R2D2 and DISK, at most 1024 pixels.
        Protocol("d2net", ExtractionSettings()),
        # Ranks networks early in training, when few pixels pass a threshold, on images of 384 x 256: the best
        # k without thresholds, on a pyramid of seven levels (min_size would leave only three).
        Protocol(
            "validation",
            ExtractionSettings(
                top_k=1000, min_size=0, min_scale=0.3, min_reliability=0.0, min_repeatability=0.0, exact=True
            ),
        ),
    )
}

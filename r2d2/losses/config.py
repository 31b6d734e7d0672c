"""Defines LossConfig: which loss trains a network, and its numbers."""

from __future__ import annotations

from dataclasses import dataclass

from r2d2.settings import setting

# The terms of the loss, and what narrow tables call them.
TERMS = {"reliability": "rel.", "similarity": "sim.", "peakiness": "peak."}


@dataclass(frozen=True)
class LossConfig:
    """A LossConfig chooses the reliability, similarity and peakiness terms and their weights."""

    reliability: str = setting("ap", "reliability loss")
    similarity: str = setting("cosine", "similarity of the repeatability maps")
    weight_reliability: float = setting(1.0, "weight of the reliability term", low=0)
    weight_similarity: float = setting(1.0, "weight of the similarity term", low=0)
    weight_peakiness: float = setting(1.0, "weight of the peakiness term", low=0)
    patch_size: int = setting(16, "side N of the patches of similarity and peakiness, pixels, even", low=2)
    ap_floor: float = setting(0.5, "AP credited to an unreliable pixel", low=0, high=1)
    kappa: float = setting(
        0.5, "HardNet: cost of an unreliable pixel, so that reliability cannot collapse", low=0
    )
    anchor_swap: bool = setting(False, "HardNet: hardest negative of row or column instead of row")
    query_stride: int = setting(8, "one query and one distractor per stride x stride pixels", low=1)
    query_grid: bool = setting(False, "queries and distractors on a regular grid instead of at random")
    border: int = setting(16, "queries and distractors keep this far from the border, pixels", low=0)

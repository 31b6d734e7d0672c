"""Sums the loss of a batch of pairs: weighted reliability, similarity and peakiness terms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from r2d2.containers import DenseFeatures
from r2d2.losses.config import TERMS, LossConfig
from r2d2.losses.peakiness import peakiness_loss
from r2d2.losses.reliability import reliability_loss
from r2d2.losses.sampling import Matches
from r2d2.losses.similarity import similarity_loss


@dataclass(frozen=True)
class LossTerms:
    """LossTerms hold the loss of a batch, its terms, and what the terms were computed from.

    Attributes:
        total: scalar with gradient, the weighted sum.
        terms: scalars by the names of `TERMS`, without gradient and before weighting.
        statistics: scalars without gradient: "valid_queries", how many queries of the batch have a partner;
            "pairs_without_query", how many pairs of the batch have no such query; "query_reliability", the
            mean reliability of those queries, in [0, 1], 0 if there are none.
    """

    total: Tensor
    terms: dict[str, Tensor]
    statistics: dict[str, Tensor]


def pair_loss(
    features1: DenseFeatures,
    features2: DenseFeatures,
    aflow: Tensor,
    config: LossConfig,
    generator: torch.Generator,
) -> LossTerms:
    """Computes the loss of a batch of pairs from the network's maps.

    It is not divided by the number of workers: data-parallel training averages their gradients.

    Args:
        features1: of the images 1, B maps of H x W.
        features2: of the images 2, B maps of H2 x W2.
        aflow: (B, 2, H', W') with H' >= H, W' >= W, pixels of image 2, NaN unknown. Rows and columns beyond
            the maps are ignored: those of the fast network are a pixel smaller than an image of odd size.
        config: which losses, and their weights.
        generator: the random queries and distractors are drawn from it.

    Raises:
        ValueError: if the maps are smaller than `config.patch_size`.
    """
    height, width = features1.repeatability.shape[2:]
    aflow = aflow[:, :, :height, :width]
    reliability, matches = reliability_loss(features1, features2, aflow, config, generator)
    maps1, maps2 = features1.repeatability, features2.repeatability
    similarity = similarity_loss(maps1, maps2, aflow, config.similarity, config.patch_size)
    # Two flat maps are perfectly similar. This term is what forbids them.
    peakiness = (peakiness_loss(maps1, config.patch_size) + peakiness_loss(maps2, config.patch_size)) / 2
    total = (
        config.weight_reliability * reliability
        + config.weight_similarity * similarity
        + config.weight_peakiness * peakiness
    )
    terms = (reliability.detach(), similarity.detach(), peakiness.detach())
    return LossTerms(total, dict(zip(TERMS, terms, strict=True)), _statistics(matches))


def _statistics(matches: Matches) -> dict[str, Tensor]:
    valid = matches.valid
    reliability = torch.where(valid, matches.reliability.detach(), 0.0).sum() / valid.sum().clamp(min=1)
    return {
        "valid_queries": valid.sum(),
        "pairs_without_query": (~valid.any(dim=1)).sum(),
        "query_reliability": reliability,
    }

"""Computes reliability losses: a pixel must match well or have low reliability.

To add one: write a function below, decorate it with `@register`, done. Its name is the name in the
configuration. It receives the `Matches` of a batch and the LossConfig and returns the cost of each query, (B,
Q), finite also where the query is not valid.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from r2d2.containers import DenseFeatures
from r2d2.losses import sampling
from r2d2.losses.average_precision import average_precision_of_weights, bin_weights
from r2d2.losses.config import LossConfig
from r2d2.losses.sampling import Matches
from r2d2.processor.to_device import copied

ReliabilityLoss = Callable[[Matches, LossConfig], Tensor]

# HardNet's.
MARGIN = 1.0
# Nearer than this, two descriptors show the same thing and are no negative of each other.
SAME = 0.008
# Added to distances that must not be chosen; descriptors of unit length are at most 2 apart.
_EXCLUDED = 10.0

RELIABILITY_LOSSES: dict[str, ReliabilityLoss] = {}


def register(function: ReliabilityLoss) -> ReliabilityLoss:
    """Makes a reliability loss known under its function's name."""
    assert function.__name__ not in RELIABILITY_LOSSES, f"two losses are called {function.__name__}"
    RELIABILITY_LOSSES[function.__name__] = function
    return function


@register
def ap(matches: Matches, config: LossConfig) -> Tensor:
    """Costs 1 - AP R - (1 - R) floor: reliable (R = 1) pays where the average precision exceeds `ap_floor`.

    Revaud et al., "R2D2: Reliable and repeatable detector and descriptor", NeurIPS 2019.

    Args:
        matches: (B, Q) queries with what they meet in image 2.
        config: `ap_floor` in [0, 1].

    Returns:
        (B, Q), the cost of each query, in [0, 1].
    """
    positives = bin_weights(sampling.positive_scores(matches).view(-1, 1))
    negatives = bin_weights(sampling.negative_scores(matches).flatten(0, 1))
    distractors = bin_weights(sampling.distractor_scores(matches).flatten(0, 1))
    # Histograms add up, so the scores of positives, neighbours and distractors are never put side by side.
    precision = average_precision_of_weights(positives, positives + negatives + distractors)
    reliability = matches.reliability
    return 1 - precision.view_as(reliability) * reliability - (1 - reliability) * config.ap_floor


@register
def hardnet(matches: Matches, config: LossConfig) -> Tensor:
    """Costs R l + (1 - R) kappa with HardNet's l: unreliable costs `kappa`, so R need not collapse.

    R grows where l < kappa. A network that tells nothing apart pays l = 1, the margin: from scratch, R falls
    to 0 with kappa = 0.5, and little is learnt; not so with 0.8 or 1. Trained networks pay about 0.5.

    Negatives of a query are the positives of all other valid queries of the batch, but for those of the same
    image whose truth is strictly nearer than 5 px.

    Args:
        matches: (B, Q) queries with what they meet in image 2.
        config: `kappa` and `anchor_swap`.

    Returns:
        (B, Q), the cost of each query.
    """
    valid = matches.valid.flatten()
    near = sampling.near_in_same_image(matches.truth, matches.truth)
    # A query without a partner has no positive that could be a negative of others.
    excluded = near | ~(valid[:, None] & valid)
    cost = hardest_in_batch(
        matches.anchors.flatten(0, 1), matches.positives.flatten(0, 1), excluded, config.anchor_swap
    )
    reliability = matches.reliability
    return reliability * cost.view_as(reliability) + (1 - reliability) * config.kappa


def hardest_in_batch(
    anchors: Tensor, positives: Tensor, excluded: Tensor | None = None, anchor_swap: bool = False
) -> Tensor:
    """Computes the HardNet loss of each anchor against the hardest negative among the other positives.

    A. Mishchuk, D. Mishkin, F. Radenović, J. Matas, "Working hard to know your neighbor's margins", NeurIPS
    2017: a descriptor must lie nearer to its positive than to any negative.

    Args:
        anchors: (N, D).
        positives: (N, D), row i belongs to anchor i.
        excluded: (N, N) bool, positives (columns) that are no negatives of an anchor (row).
        anchor_swap: take the smaller of the hardest negative of the row and that of the column.

    Returns:
        (N,), max(0, 1 + d_ii - d_negative), in [0, 3]; 0 for an anchor without negatives.
    """
    if anchors.shape[0] == 0:
        # An empty sum that still belongs to the graph, so that `backward` works.
        return (anchors * positives).sum(dim=1)
    distances = distance_matrix(anchors, positives)
    forbidden = (distances < SAME) | torch.eye(len(anchors), dtype=torch.bool, device=anchors.device)
    if excluded is not None:
        forbidden = forbidden | excluded
    # Infinity would do in the value, but not in the gradient. An anchor whose candidates are all forbidden
    # pays at most 1 + 2 - 10, hence nothing.
    candidates = distances + _EXCLUDED * forbidden
    hardest = candidates.amin(dim=1)
    if anchor_swap:
        hardest = hardest.minimum(candidates.amin(dim=0))
    return (MARGIN + distances.diagonal() - hardest).clamp_min(0)


def distance_matrix(anchors: Tensor, positives: Tensor) -> Tensor:
    """Computes sqrt(|a|² + |p|² - 2 a.p + 1e-6) of anchors (N, D) and positives (M, D): (N, M)."""
    squares = anchors.square().sum(dim=1)[:, None] + positives.square().sum(dim=1)
    # Rounding, above all of the fast matrix products of GPUs, can leave less than 0.
    # The slope of the root is infinite at 0: the constant keeps gradients finite.
    return ((squares - 2 * anchors @ positives.T).clamp_min(0) + 1e-6).sqrt()


def reliability_loss(
    features1: DenseFeatures,
    features2: DenseFeatures,
    aflow: Tensor,
    config: LossConfig,
    generator: torch.Generator,
) -> tuple[Tensor, Matches]:
    """Averages the cost of the valid queries of a batch; returns it with the queries.

    Without a valid query the loss is 0 and so is its gradient.

    Args:
        features1: of the images 1, B of H x W.
        features2: of the images 2.
        aflow: (B, 2, H, W), pixels of image 2, NaN unknown.
        config: which loss; where queries and distractors lie.
        generator: queries are drawn from it, then distractors.

    Returns:
        the loss, a scalar, and the (B, Q) queries that it was computed from.
    """
    height, width = features1.descriptors.shape[2:]
    height2, width2 = features2.descriptors.shape[2:]
    queries = sampling.draw_positions(height, width, config, generator)
    distractors = sampling.draw_positions(height2, width2, config, generator)
    positions = copied(torch.cat([queries, distractors]), aflow.device)
    queries, distractors = positions[: len(queries)], positions[len(queries) :]
    matches = sampling.match(features1, features2, aflow, queries, distractors)
    costs = RELIABILITY_LOSSES[config.reliability](matches, config)
    # Masked, not selected: shapes stay the same at every step, and nothing waits for the device.
    total = torch.where(matches.valid, costs, torch.zeros_like(costs)).sum()
    # Without a valid query this is 0 / 1, not 0 / 0.
    return total / matches.valid.sum().clamp(min=1), matches

"""Computes the HardNet loss: a descriptor must lie nearer to its positive than to any negative.

A. Mishchuk, D. Mishkin, F. Radenović, J. Matas, "Working hard to know your neighbor's margins", NeurIPS 2017.
"""

from __future__ import annotations

import torch
from torch import Tensor

MARGIN = 1.0
# Nearer than this, two descriptors show the same thing and are no negative of each other.
SAME = 0.008
# Added to distances that must not be chosen; descriptors of unit length are at most 2 apart.
_EXCLUDED = 10.0


def hardest_in_batch(
    anchors: Tensor, positives: Tensor, excluded: Tensor | None = None, anchor_swap: bool = False
) -> Tensor:
    """Computes the loss of each anchor against the hardest negative among the other positives.

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

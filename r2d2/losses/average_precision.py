"""Computes average precision with a gradient: how pure the best scores are, by soft histograms.

After K. He, Y. Lu, S. Sclaroff, "Local descriptors optimized for average precision", CVPR 2018.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from r2d2.processor.arithmetic import in_fixed_order

BINS = 20

# Scores in work at a time: bounds the temporary memory to some tens of megabytes. Elsewhere than on a CPU it
# is how many numbers of one kind are made of them: 256 MiB, for few steps.
_CHUNK, _LARGE_CHUNK = 2**20, 2**26


def average_precision(scores: Tensor, labels: Tensor, bins: int = BINS) -> Tensor:
    """Computes the average precision of each row of scores.

    Args:
        scores: (M, N), in [-1, 1]; what lies outside [0, 1] counts as 0 or 1.
        labels: (M, N) bool, which of them are positives.
        bins: number of bins over [0, 1].

    Returns:
        (M,) in [0, 1]; 0 for a row without positives.
    """
    return average_precision_of_weights(bin_weights(scores, labels, bins), bin_weights(scores, None, bins))


def average_precision_of_weights(positives: Tensor, everything: Tensor) -> Tensor:
    """Computes the average precision of rows from the weights in their bins.

    Args:
        positives: (M, bins), weight of the positives, best bin first; see `bin_weights`.
        everything: (M, bins), weight of positives and negatives together.

    Returns:
        (M,): sum over bins of precision * recall gained, where 0/0 counts as 0.
    """
    # The best bin comes first: a cumulative sum holds what a threshold at that bin would find.
    precision = _ratio(_running_sums(positives), _running_sums(everything))
    gained = _ratio(positives, positives.sum(dim=1, keepdim=True))
    return (precision * gained).sum(dim=1)


def bin_weights(scores: Tensor, mask: Tensor | None = None, bins: int = BINS) -> Tensor:
    """Computes the soft histogram of each row of scores.

    Bin k has its centre at 1 - k / (bins - 1) and a triangular weight of half-width 1 / (bins - 1); the first
    and the last bin are flat on the outside. A score thus gives 1 - f to one bin and f to the next.

    Args:
        scores: (M, N).
        mask: (M, N) bool, which scores count; all without it.
        bins: number of bins, at least 2.

    Returns:
        (M, bins), best bin first.
    """
    weights: Tensor = _BinWeights.apply(scores, mask, bins)  # type: ignore[no-untyped-call]
    return weights


class _BinWeights(torch.autograd.Function):
    """Keeps only the scores for the backward pass, not `bins` copies of them."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, mask: Tensor | None, bins: int) -> Tensor:
        ctx.save_for_backward(scores, mask)
        ctx.bins = bins
        return (scattered if scores.device.type == "cpu" else summed)(scores, mask, bins)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        scores, mask = ctx.saved_tensors
        bins = ctx.bins
        # A score that grows moves its weight from the lower to the upper of its two bins.
        slope = (gradient[:, :-1] - gradient[:, 1:]) * (bins - 1)
        result = torch.empty_like(scores)
        # Four: a place, and a whole number of twice its size, and a slope.
        for rows in _row_chunks(scores, 4):
            upper = _upper(_places(scores[rows], bins), bins)
            # Outside [0, 1] the histogram is flat: such scores get no gradient.
            inside = (scores[rows] >= 0) & (scores[rows] <= 1)
            if mask is not None:
                inside &= mask[rows]
            torch.mul(slope[rows].gather(1, upper), inside, out=result[rows])
        return result, None, None


def _running_sums(weights: Tensor) -> Tensor:
    """Sums from the first bin to each: (M, bins) of (M, bins)."""
    if in_fixed_order(weights):
        # PyTorch refuses `cumsum` of a GPU there, in case it is one long row.
        return weights @ weights.new_ones(weights.shape[1], weights.shape[1]).triu()
    return weights.cumsum(dim=1)


def scattered(scores: Tensor, mask: Tensor | None, bins: int) -> Tensor:
    """Computes `bin_weights` score by score, which a CPU is fast at.

    Args:
        scores: (M, N).
        mask: (M, N) bool, or None.
        bins: number of bins.

    Returns:
        (M, bins).
    """
    weights = scores.new_zeros(scores.shape[0], bins)
    for rows in _row_chunks(scores, 1):
        place = _places(scores[rows], bins)
        upper = _upper(place, bins)
        lower_part = place - upper
        upper_part = 1 - lower_part
        if mask is not None:
            upper_part, lower_part = upper_part * mask[rows], lower_part * mask[rows]
        # A slice is a view, so both additions land in `weights`.
        weights[rows].scatter_add_(1, upper, upper_part).scatter_add_(1, upper + 1, lower_part)
    return weights


def summed(scores: Tensor, mask: Tensor | None, bins: int) -> Tensor:
    """Computes `bin_weights` bin by bin, in sums: on a GPU the scores of a row would queue for its bins.

    A score at place p gives bin k the weight max(1 - |p - k|, 0). Sums are the same on every run.

    Args:
        scores: (M, N).
        mask: (M, N) bool, or None.
        bins: number of bins.

    Returns:
        (M, bins), up to rounding.
    """
    weights = scores.new_empty(bins, scores.shape[0])
    numbers = torch.arange(bins, dtype=scores.dtype, device=scores.device)[:, None, None]
    for rows in _row_chunks(scores, bins):
        given = (numbers - _places(scores[rows], bins)).abs_().neg_().add_(1).clamp_(min=0)
        if mask is not None:
            given *= mask[rows]
        torch.sum(given, dim=2, out=weights[:, rows])
    return weights.T


def _row_chunks(scores: Tensor, numbers: int) -> list[slice]:
    """Rows in work at a time, where a GPU makes so many numbers of a score."""
    most = _CHUNK if scores.device.type == "cpu" else _LARGE_CHUNK // numbers
    step = max(1, most // max(1, scores.shape[1]))
    return [slice(start, start + step) for start in range(0, scores.shape[0], step)]


def _places(scores: Tensor, bins: int) -> Tensor:
    """Where scores lie on the scale of bin numbers: 0 for a score of 1, bins - 1 for 0."""
    return ((1 - scores) * (bins - 1)).clamp(0, bins - 1)


def _upper(place: Tensor, bins: int) -> Tensor:
    """The bin above each place; the next one gets the share `place - upper` of the weight."""
    # A NaN becomes any whole number: it must not point outside, and makes `place - upper` NaN.
    return place.long().clamp_(0, bins - 2)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    # Weights are 0 or above 1e-7 (the spacing of scores near 1), so squares of `whole` do not underflow.
    return part / torch.where(whole > 0, whole, torch.ones_like(whole))

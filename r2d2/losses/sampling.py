"""Which pixels the reliability losses compare: queries, their true partners, neighbours and distractors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from r2d2.config import LossConfig
from r2d2.containers import DenseFeatures

# Pixels around the true position: up to 3 px away they are right, 5 to 7 px wrong, ignored between.
POSITIVE_RADIUS = 3
NEGATIVE_RADIUS = 5
OUTER_RADIUS = 7

# Stands for a position that is unknown or far outside; no image is that large.
_OUTSIDE = -1e4
# Channels gathered at a time: large enough for few steps, small enough to stay in the cache.
_CHANNELS = 16


@dataclass(frozen=True)
class Matches:
    """Q pixels of each image 1, the same in all, and what they meet in the images 2.

    Entries of queries that are not valid are finite, and mean nothing.

    Attributes:
        anchors: (B, Q, D), descriptors at the queries.
        positives: (B, Q, D), descriptors of image 2 at the best of the positions near the truth.
        reliability: (B, Q), mean of the reliability at the query and at that best position.
        truth: (B, Q, 2), rounded true position x, y in image 2, pixels; may lie outside.
        valid: (B, Q) bool, whether the truth is known and inside image 2.
        distractors: (B, n, D), descriptors of the images 2 at the distractors.
        distractor_positions: (n, 2), x, y in pixels, the same in every image 2.
        descriptors2: (B, D, H2, W2), all descriptors of the images 2.
    """

    anchors: Tensor
    positives: Tensor
    reliability: Tensor
    truth: Tensor
    valid: Tensor
    distractors: Tensor
    distractor_positions: Tensor
    descriptors2: Tensor


def draw_positions(height: int, width: int, config: LossConfig, generator: torch.Generator) -> Tensor:
    """Pixels of an H x W image, at least `config.border` from its border.

    Random ones: (H - 2 border)(W - 2 border) // stride², drawn with replacement. With `config.query_grid`
    every stride-th pixel of every stride-th row, row by row, from the border on.

    Returns:
        (n, 2) int64, x, y in pixels, on the generator's device.
    """
    border, stride, device = config.border, config.query_stride, generator.device
    inner_height, inner_width = max(0, height - 2 * border), max(0, width - 2 * border)
    if config.query_grid:
        y = torch.arange(border, border + inner_height, stride, device=device)
        x = torch.arange(border, border + inner_width, stride, device=device)
        y, x = torch.meshgrid(y, x, indexing="ij")
        return torch.stack([x.flatten(), y.flatten()], dim=1)
    count = inner_height * inner_width // stride**2
    if count == 0:
        return torch.zeros(0, 2, dtype=torch.int64, device=device)
    x = torch.randint(border, border + inner_width, (count,), generator=generator, device=device)
    y = torch.randint(border, border + inner_height, (count,), generator=generator, device=device)
    return torch.stack([x, y], dim=1)


def match(
    features1: DenseFeatures, features2: DenseFeatures, aflow: Tensor, queries: Tensor, distractors: Tensor
) -> Matches:
    """Looks up what each query meets in image 2.

    Args:
        features1: of the images 1, B of H x W.
        features2: of the images 2, B of H2 x W2.
        aflow: (B, 2, H, W), pixels of image 2, NaN unknown.
        queries: (Q, 2) int64, x, y in image 1.
        distractors: (n, 2) int64, x, y in image 2.
    """
    descriptors2 = features2.descriptors
    batch, _, height2, width2 = descriptors2.shape
    at_queries = _flat_index(queries, features1.descriptors.shape[3]).expand(batch, -1)
    anchors = _gather(features1.descriptors, at_queries)
    truth = _rounded(_gather(aflow, at_queries))
    last = truth.new_tensor([width2 - 1, height2 - 1])
    valid = ((truth >= 0) & (truth <= last)).all(dim=2)

    near = _window(truth, offsets(0, POSITIVE_RADIUS), height2, width2)
    with torch.no_grad():
        best = window_scores(anchors, descriptors2, near).argmax(dim=2, keepdim=True)
    at_best = near.gather(2, best).squeeze(2)
    at_distractors = _flat_index(distractors, width2).expand(batch, -1)
    found = _gather(descriptors2, torch.cat([at_best, at_distractors], dim=1))
    reliability = _gather(features1.reliability, at_queries) + _gather(features2.reliability, at_best)
    count = queries.shape[0]
    return Matches(
        anchors=anchors,
        positives=found[:, :count],
        reliability=reliability.squeeze(2) / 2,
        truth=truth,
        valid=valid,
        distractors=found[:, count:],
        distractor_positions=distractors,
        descriptors2=descriptors2,
    )


def positive_scores(matches: Matches) -> Tensor:
    """The score of each query's best positive: (B, Q)."""
    return (matches.anchors * matches.positives).sum(dim=2)


def negative_scores(matches: Matches) -> Tensor:
    """The scores of the pixels around the truth that are wrong: (B, Q, 80), row by row."""
    ring = offsets(NEGATIVE_RADIUS, OUTER_RADIUS).to(matches.truth.device)
    index = _window(matches.truth, ring, *matches.descriptors2.shape[2:])
    return window_scores(matches.anchors, matches.descriptors2, index)


def distractor_scores(matches: Matches) -> Tensor:
    """The scores of the distractors of all images 2: (B, Q, B * n), image by image.

    A distractor of the query's own image that is strictly nearer than 5 px to the truth scores 0: it may be
    right.
    """
    batch, count, dim = matches.anchors.shape
    scores = matches.anchors.reshape(-1, dim) @ matches.distractors.reshape(-1, dim).T
    near = near_in_same_image(matches.truth, matches.distractor_positions.expand(batch, -1, -1))
    return scores.masked_fill(near, 0.0).view(batch, count, near.shape[1])


def near_in_same_image(truth: Tensor, positions: Tensor) -> Tensor:
    """Which positions lie strictly nearer than 5 px to a truth, in the same image.

    Args:
        truth: (B, Q, 2), pixels.
        positions: (B, n, 2), pixels.

    Returns:
        (B * Q, B * n) bool.
    """
    (batch, count, _), others = truth.shape, positions.shape[1]
    apart = (truth[:, :, None] - positions[:, None]).square().sum(dim=3)
    near = torch.zeros(batch, count, batch, others, dtype=torch.bool, device=truth.device)
    near.diagonal(dim1=0, dim2=2).copy_((apart < NEGATIVE_RADIUS**2).permute(1, 2, 0))
    return near.view(batch * count, batch * others)


def offsets(inner: int, outer: int) -> Tensor:
    """All (x, y) with inner² <= x² + y² <= outer²: (n, 2) int64, row by row."""
    side = torch.arange(-outer, outer + 1)
    y, x = torch.meshgrid(side, side, indexing="ij")
    squared = x.square() + y.square()
    chosen = (squared >= inner**2) & (squared <= outer**2)
    return torch.stack([x[chosen], y[chosen]], dim=1)


def window_scores(anchors: Tensor, descriptors: Tensor, index: Tensor) -> Tensor:
    """Dot products of each anchor with the descriptors of its own window of pixels.

    Args:
        anchors: (B, Q, D).
        descriptors: (B, D, H, W).
        index: (B, Q, O) int64, y * W + x of the pixels in the window.

    Returns:
        (B, Q, O).
    """
    scores: Tensor = _WindowScores.apply(anchors, descriptors.flatten(2), index)  # type: ignore[no-untyped-call]
    return scores


class _WindowScores(torch.autograd.Function):
    """Gathers some channels at a time, in both directions: never holds Q x O x D numbers."""

    @staticmethod
    def forward(ctx: Any, anchors: Tensor, planes: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(anchors, planes, index)
        scores = anchors.new_zeros(index.shape)
        for channels in _channel_chunks(planes):
            values = _gather_planes(planes[:, channels], index)
            scores += torch.einsum("bcqo,bqc->bqo", values, anchors[:, :, channels])
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        anchors, planes, index = ctx.saved_tensors
        for_anchors, for_planes = torch.empty_like(anchors), torch.zeros_like(planes)
        for channels in _channel_chunks(planes):
            part = planes[:, channels]
            values = _gather_planes(part, index)
            for_anchors[:, :, channels] = torch.einsum("bcqo,bqo->bqc", values, gradient)
            spread = anchors[:, :, channels].transpose(1, 2)[..., None] * gradient[:, None]
            where = index.flatten(1)[:, None].expand(-1, part.shape[1], -1)
            for_planes[:, channels].scatter_add_(2, where, spread.flatten(2))
        return for_anchors, for_planes, None


def _channel_chunks(planes: Tensor) -> list[slice]:
    return [slice(start, start + _CHANNELS) for start in range(0, planes.shape[1], _CHANNELS)]


def _gather_planes(planes: Tensor, index: Tensor) -> Tensor:
    """Values (B, C, Q, O) of planes (B, C, P) at index (B, Q, O)."""
    flat = index.flatten(1)[:, None].expand(-1, planes.shape[1], -1)
    return planes.gather(2, flat).view(*planes.shape[:2], *index.shape[1:])


def _gather(maps: Tensor, index: Tensor) -> Tensor:
    """Values (B, n, C) of maps (B, C, H, W) at index (B, n) = y * W + x."""
    flat = index[:, None].expand(-1, maps.shape[1], -1)
    return maps.flatten(2).gather(2, flat).transpose(1, 2)


def _flat_index(positions: Tensor, width: int) -> Tensor:
    return positions[..., 1] * width + positions[..., 0]


def _rounded(flow: Tensor) -> Tensor:
    """The nearest whole position, halves upwards; unknown ones lie far outside."""
    return torch.nan_to_num(torch.floor(flow + 0.5), nan=_OUTSIDE).clamp(_OUTSIDE, -_OUTSIDE)


def _window(truth: Tensor, steps: Tensor, height: int, width: int) -> Tensor:
    """The pixels around each truth (B, Q, 2), clamped to the image, as index (B, Q, O) = y * W + x."""
    positions = truth.long()[:, :, None] + steps.to(truth.device)
    x, y = positions[..., 0].clamp(0, width - 1), positions[..., 1].clamp(0, height - 1)
    return y * width + x

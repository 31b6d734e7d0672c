"""Chooses the pixels that reliability losses compare: queries, partners, neighbours, distractors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from r2d2.containers import DenseFeatures
from r2d2.losses.config import LossConfig
from r2d2.processor.to_device import constant

# Pixels around the true position: up to 3 px away they are right, 5 to 7 px wrong, ignored between.
POSITIVE_RADIUS = 3
NEGATIVE_RADIUS = 5
OUTER_RADIUS = 7

# Stands for a position that is unknown or far outside; no image is that large.
_OUTSIDE = -1e4
# Numbers gathered at a time: on a CPU as many as stay in its cache, elsewhere enough for few steps.
_CHUNK, _LARGE_CHUNK = 2**19, 2**25


@dataclass(frozen=True)
class Matches:
    """Matches hold Q pixels of each image 1, the same in all, and what they are compared with in images 2.

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
    """Draws pixels of an H x W image, at least `config.border` from its border.

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
    # On the generator's device, so that a seed draws the same positions whatever the maps lie on.
    x = torch.randint(border, border + inner_width, (count,), generator=generator, device=device)
    y = torch.randint(border, border + inner_height, (count,), generator=generator, device=device)
    return torch.stack([x, y], dim=1)


def match(
    features1: DenseFeatures, features2: DenseFeatures, aflow: Tensor, queries: Tensor, distractors: Tensor
) -> Matches:
    """Looks up what each query is compared with in image 2.

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
    last = constant((width2 - 1, height2 - 1), truth.dtype, truth.device)
    valid = ((truth >= 0) & (truth <= last)).all(dim=2)

    near = _window(truth, offsets(0, POSITIVE_RADIUS, truth.device), height2, width2)
    # Which position is best is a choice without a gradient; the descriptor there has one.
    with torch.no_grad():
        best = window_scores(anchors, descriptors2, near).argmax(dim=2, keepdim=True)
    at_best = near.gather(2, best).squeeze(2)
    at_distractors = _flat_index(distractors, width2).expand(batch, -1)
    # One gather for both: backwards, each would fill a whole map of gradients.
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
    """Scores each query's best positive, by dot product: (B, Q) in [-1, 1]."""
    return (matches.anchors * matches.positives).sum(dim=2)


def negative_scores(matches: Matches) -> Tensor:
    """Scores the pixels around the truth that are wrong: (B, Q, 80) in [-1, 1], row by row."""
    ring = offsets(NEGATIVE_RADIUS, OUTER_RADIUS, matches.truth.device)
    index = _window(matches.truth, ring, *matches.descriptors2.shape[2:])
    return window_scores(matches.anchors, matches.descriptors2, index)


def distractor_scores(matches: Matches) -> Tensor:
    """Scores the distractors of all images 2: (B, Q, B * n) in [-1, 1], image by image.

    A distractor of the query's own image that is strictly nearer than 5 px to the truth scores 0: it may be
    right.
    """
    batch, count, dim = matches.anchors.shape
    scores = matches.anchors.reshape(-1, dim) @ matches.distractors.reshape(-1, dim).T
    near = near_in_same_image(matches.truth, matches.distractor_positions.expand(batch, -1, -1))
    # In average precision 0 is the worst bin, behind whatever counts.
    return scores.masked_fill(near, 0.0).view(batch, count, near.shape[1])


def near_in_same_image(truth: Tensor, positions: Tensor) -> Tensor:
    """Says which positions lie strictly nearer than 5 px to a truth of the same image.

    Args:
        truth: (B, Q, 2), pixels.
        positions: (B, n, 2), pixels.

    Returns:
        (B * Q, B * n) bool.
    """
    (batch, count, _), others = truth.shape, positions.shape[1]
    apart = (truth[:, :, None] - positions[:, None]).square().sum(dim=3)
    near = torch.zeros(batch, count, batch, others, dtype=torch.bool, device=truth.device)
    # Only where the image of the query is the image of the position; all else stays False.
    near.diagonal(dim1=0, dim2=2).copy_((apart < NEGATIVE_RADIUS**2).permute(1, 2, 0))
    return near.view(batch * count, batch * others)


@cache
def offsets(inner: int, outer: int, device: torch.device) -> Tensor:
    """Lists all (x, y) with inner² <= x² + y² <= outer², on a device: (n, 2) int64, row by row."""
    side = range(-outer, outer + 1)
    found = (number for y in side for x in side if inner**2 <= x * x + y * y <= outer**2 for number in (x, y))
    return constant(tuple(found), torch.int64, device).view(-1, 2)


def window_scores(anchors: Tensor, descriptors: Tensor, index: Tensor) -> Tensor:
    """Computes the dot products of each anchor with the descriptors of its own window of pixels.

    Args:
        anchors: (B, Q, D).
        descriptors: (B, D, H, W).
        index: (B, Q, O) int64, y * W + x of the pixels in the window.

    Returns:
        (B, Q, O).
    """
    scores: Tensor = _WindowScores.apply(  # type: ignore[no-untyped-call]
        anchors.flatten(0, 1), _rows(descriptors), _row_numbers(index, descriptors).flatten(0, 1)
    )
    return scores.view(index.shape)


class _WindowScores(torch.autograd.Function):
    """Gathers the windows of some anchors at a time, in both directions: never holds M x O x D numbers.

    Anchors (M, D), rows (P, D), index (M, O) -> scores (M, O).
    """

    @staticmethod
    def forward(ctx: Any, anchors: Tensor, rows: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(anchors, rows, index)
        scores = anchors.new_empty(index.shape)
        for part in _anchor_chunks(index, rows):
            windows = _windows(rows, index[part])
            torch.sum(windows.mul_(anchors[part, None]), dim=2, out=scores[part])
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        anchors, rows, index = ctx.saved_tensors
        for_anchors, for_rows = torch.empty_like(anchors), torch.zeros_like(rows)
        # Gathered again: to keep the windows of the forward pass would take M x O x D numbers.
        for part in _anchor_chunks(index, rows):
            windows = _windows(rows, index[part])
            for_anchors[part] = torch.bmm(gradient[part, None], windows).squeeze(1)
            # In the memory of the windows, which are not needed any more.
            spread = torch.mul(gradient[part, :, None], anchors[part, None], out=windows)
            # Windows overlap, so the gradients of a pixel add up.
            for_rows.index_add_(0, index[part].flatten(), spread.flatten(0, 1))
        return for_anchors, for_rows, None


def _anchor_chunks(index: Tensor, rows: Tensor) -> list[slice]:
    chunk = _CHUNK if rows.device.type == "cpu" else _LARGE_CHUNK
    step = max(1, chunk // max(1, index.shape[1] * rows.shape[1]))
    return [slice(start, start + step) for start in range(0, index.shape[0], step)]


def _windows(rows: Tensor, index: Tensor) -> Tensor:
    """Rows (P, D) at index (M, O): (M, O, D)."""
    return rows.index_select(0, index.flatten()).view(*index.shape, -1)


def _rows(maps: Tensor) -> Tensor:
    """Maps (B, C, H, W) with one row per pixel, (B * H * W, C); no copy where memory is channels_last."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def _row_numbers(index: Tensor, maps: Tensor) -> Tensor:
    """Index (B, ...) = y * W + x within each of the maps (B, C, H, W), as numbers of `_rows`."""
    pixels = maps.shape[2] * maps.shape[3]
    first = constant(tuple(range(0, len(maps) * pixels, pixels)), torch.int64, index.device)
    return index + first.view(-1, *[1] * (index.dim() - 1))


def _gather(maps: Tensor, index: Tensor) -> Tensor:
    """Values (B, n, C) of maps (B, C, H, W) at index (B, n) = y * W + x."""
    return _rows(maps)[_row_numbers(index, maps)]


def _flat_index(positions: Tensor, width: int) -> Tensor:
    return positions[..., 1] * width + positions[..., 0]


def _rounded(flow: Tensor) -> Tensor:
    """The nearest whole position, halves upwards; unknown ones lie far outside."""
    return torch.nan_to_num(torch.floor(flow + 0.5), nan=_OUTSIDE).clamp(_OUTSIDE, -_OUTSIDE)


def _window(truth: Tensor, steps: Tensor, height: int, width: int) -> Tensor:
    """The pixels around each truth (B, Q, 2), clamped to the image, as index (B, Q, O) = y * W + x."""
    positions = truth.long()[:, :, None] + steps
    # At the border a window repeats the pixels of the edge, so that all windows have equally many.
    x, y = positions[..., 0].clamp(0, width - 1), positions[..., 1].clamp(0, height - 1)
    return y * width + x

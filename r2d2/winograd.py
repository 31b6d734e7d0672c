"""Convolutions by Winograd's minimal filtering (Winograd 1980; Lavin and Gray, CVPR 2016), for processors.

In one dimension, m outputs y_i = sum_j g_j d_(i+j) of a filter g of k taps cost n = m + k - 1 products
instead of m k: y = A ((G g) * (B d)), by evaluating polynomials at n points. With the points
a_1 ... a_(n-1) and infinity,

    A[i, p] = a_p^i               for infinity: 1 where i = m - 1
    G[p, j] = a_p^j / f_p(a_p)    for infinity: 1 where j = k - 1
    B[p, :] = the coefficients, ascending, of f_p(x) = the product of all x - a_q but x - a_p;
              for infinity of the product of all.

In two dimensions both sides are transformed, and each of the n x n places of a tile becomes a matrix product
over the channels with a row per tile. With m = 4 that is 2.25 products a pixel instead of 9 (k = 3), or
1.56 instead of 4 (k = 2). Every step is a matrix product of the library, on a strip of tiles.

A filter of dilation d sees d x d images of every d-th row and column; their tiles lie side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

POINTS = {2: (0.0, 0.5, -1.0, 2.0), 3: (0.0, 0.75, -0.75, 1.5, -1.5)}
"""Size of a filter -> the points but infinity. Of seven or eight sets each, those that round best."""

STRIP_TILES = 256
"""Tiles that are transformed at once, about."""


@dataclass(frozen=True)
class WinogradConvolution:
    """A convolution of stride 1 in float32 on a processor, prepared by `winograd`.

    Attributes:
        filters: (n * n, C, K) the transformed filters.
        bias: (K,).
        to_points: B, (n, n).
        from_points: A, (m, n).
        padding, dilation: of both sides.
    """

    filters: Tensor
    bias: Tensor
    to_points: Tensor
    from_points: Tensor
    padding: int
    dilation: int

    def __call__(self, x: Tensor, rectified: bool = False) -> Tensor:
        """The convolution of x (1, C, H, W), channels last; of that its ReLU if `rectified`.

        Returns:
            (1, K, H', W'), channels last.
        """
        m, n = self.from_points.shape
        reach = (n - m) * self.dilation
        height, width = (side + 2 * self.padding - reach for side in x.shape[2:])
        y = x.new_empty(1, height, width, len(self.bias))
        image = x[0].permute(1, 2, 0)
        strip = _Strip(self, image, height, width)
        for first in strip.firsts(height):
            strip.load(image, first - self.padding)
            strip.convolve()
            strip.store(y[0], first, rectified)
        return y.permute(0, 3, 1, 2)


def winograd(weight: Tensor, bias: Tensor, padding: int, dilation: int) -> WinogradConvolution:
    """Prepares a convolution.

    Args:
        weight: (K, C, k, k) float64; k is one of POINTS.
        bias: (K,).
        padding: zeros on each side of the image.
        dilation: distance of a filter's taps, pixels.
    """
    outputs, inputs, size, _ = weight.shape
    to_points, of_filter, from_points = _matrices(size)
    # Columns before rows, as a strip is transformed.
    filters = torch.einsum("pj,qi,kcij->pqck", of_filter, of_filter, weight)
    return WinogradConvolution(
        filters.reshape(-1, inputs, outputs).float().contiguous(),
        bias.float(),
        to_points.float(),
        from_points.float(),
        padding,
        dilation,
    )


class _Strip:
    """The rows of an image that some tiles see, and the memory in which they are transformed.

    A tile row sees n rows of the image, `dilation` apart, and makes m of the result. A strip holds `phases`
    tile rows, each a pixel below the one before, and `blocks` such sets, each m * dilation pixels below.
    """

    def __init__(self, convolution: WinogradConvolution, image: Tensor, height: int, width: int) -> None:
        self._convolution, self._dilation, self._width = convolution, convolution.dilation, width
        (m, n), dilation = convolution.from_points.shape, convolution.dilation
        inputs, outputs = convolution.filters.shape[1:]
        across = -(-width // (m * dilation))
        tile_rows = max(1, STRIP_TILES // (across * dilation))
        phases = min(dilation, tile_rows)
        blocks = min(max(1, tile_rows // dilation), -(-height // (m * dilation)))
        columns = (across * m + n - m) * dilation
        empty = image.new_empty
        self._rows = image.new_zeros(blocks * m + n - m, phases, columns, inputs)
        self._seen = _overlapping(self._rows.flatten(1), m, n)
        self._row_values = empty(blocks, n, phases, columns, inputs)
        self._tiles = empty(n, n, blocks, phases, across, dilation * inputs)
        self._values = empty(n * n, blocks * phases * across * dilation, inputs)
        self._products = empty(n * n, blocks * phases * across * dilation, outputs)
        self._columns = empty(m, n, blocks, phases, across, dilation * outputs)
        self._row_results = empty(blocks, n, phases, across, m, dilation * outputs)
        self._result = empty(blocks * m, phases, across * m * dilation, outputs)

    def firsts(self, height: int) -> Iterator[int]:
        """The first rows of the result in each strip; together the strips make all, some of them twice."""
        phases = self._rows.shape[1]
        for start in range(0, height, len(self._result) * self._dilation):
            for phase in range(0, self._dilation, phases):
                yield start + phase

    def load(self, image: Tensor, first: int) -> None:
        """Takes the rows of the image (H, W, C) from `first` on; zeros where there are none."""
        padding, width = self._convolution.padding, image.shape[1]
        for number, rows in enumerate(self._rows):
            start = first + number * self._dilation
            low, high = _inside(start, len(rows), len(image))
            rows[:low].zero_()
            rows[low:high, padding : padding + width] = image[start + low : start + high]
            rows[high:].zero_()

    def convolve(self) -> None:
        """From rows of the image to rows of the result, without the bias; both with columns of no meaning."""
        to_points, from_points = self._convolution.to_points, self._convolution.from_points
        (m, n), blocks = from_points.shape, len(self._row_values)
        torch.bmm(to_points.expand(blocks, n, n), self._seen, out=self._row_values.view(blocks, n, -1))
        tiles = self._tiles.copy_(self._windows())
        torch.mm(to_points, tiles.view(n, -1), out=self._values.view(n, -1))
        torch.bmm(self._values, self._convolution.filters, out=self._products)
        torch.mm(from_points, self._products.view(n, -1), out=self._columns.view(m, -1))
        self._row_results.copy_(self._columns.permute(2, 1, 3, 4, 0, 5))
        row_results = self._row_results.view(blocks, n, -1)
        torch.bmm(from_points.expand(blocks, m, n), row_results, out=self._result.view(blocks, m, -1))

    def store(self, y: Tensor, first: int, rectified: bool) -> None:
        """Puts the result, biased and rectified if asked for, to where it belongs in y (H', W', K)."""
        for number, rows in enumerate(self._result):
            start = first + number * self._dilation
            low, high = _inside(start, len(rows), len(y))
            there = y[start + low : start + high]
            torch.add(rows[low:high, : self._width], self._convolution.bias, out=there)
            if rectified:
                there.relu_()

    def _windows(self) -> Tensor:
        """The row values that tiles see, in the order of `_tiles`."""
        m, dilation = self._convolution.from_points.shape[0], self._dilation
        block, row, phase, column, _ = self._row_values.stride()
        run = dilation * column
        return self._row_values.as_strided(self._tiles.shape, (run, row, block, phase, m * run, 1))


def _overlapping(rows: Tensor, m: int, n: int) -> Tensor:
    """Of rows (N, size), sets of n, each starting m after the one before: (sets, n, size)."""
    step = rows.stride(0)
    return rows.as_strided(((len(rows) - n) // m + 1, n, rows.shape[1]), (m * step, step, 1))


def _inside(start: int, count: int, size: int) -> tuple[int, int]:
    """Of `count` places from `start` on, which are among the first `size`: from the one, before the other."""
    low = min(max(0, -start), count)
    return low, max(low, min(count, size - start))


def _matrices(k: int) -> tuple[Tensor, Tensor, Tensor]:
    """B, G and A of the module's docstring, float64."""
    points = np.array(POINTS[k])
    n = len(points) + 1
    m = n - k + 1
    to_points, of_filter, from_points = np.zeros((n, n)), np.zeros((n, k)), np.zeros((m, n))
    for p, point in enumerate(points):
        others = np.delete(points, p)
        to_points[p, :-1] = np.poly(others)[::-1]
        of_filter[p] = point ** np.arange(k) / np.prod(point - others)
        from_points[:, p] = point ** np.arange(m)
    to_points[-1] = np.poly(points)[::-1]
    of_filter[-1, -1] = from_points[-1, -1] = 1
    return torch.tensor(to_points), torch.tensor(of_filter), torch.tensor(from_points)

"""Shared memory in which loader processes hand over their batches, used again and again.

New shared memory for every batch would be cleared by the kernel, mapped and unmapped in two processes, which
takes a tenth of the time that making the batch does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from r2d2.containers import Pair, PairBatch, collate, tensors_in


@dataclass(frozen=True)
class Delivery:
    """What a loader process says of a batch that lies in its block.

    Attributes:
        number: of the batch.
        samples, refused: as of `PairBatch`.
    """

    number: int
    samples: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]


class SharedBlocks:
    """As many blocks as batches are under way at once; batch k goes into block k modulo their number.

    Args:
        count: of blocks.
        pairs: of a batch.
        side: of its images, pixels.
    """

    def __init__(self, count: int, pairs: int, side: int) -> None:
        self._shape = (pairs, side, side)
        self._blocks = torch.empty(count, PairBatch.numbers(*self._shape))
        self._blocks.share_memory_()  # type: ignore[no-untyped-call]

    def put(self, number: int, pairs: Sequence[Pair]) -> Delivery:
        """In a loader process: writes a batch into its block."""
        batch = collate(pairs, self._block(number))
        return Delivery(number, batch.samples, batch.refused)

    def take(self, delivery: Delivery) -> PairBatch:
        """The batch, in memory of its own: its block may be written again."""
        own = self._block(delivery.number).clone()
        return PairBatch(*tensors_in(own, *self._shape), delivery.samples, delivery.refused)

    def _block(self, number: int) -> Tensor:
        return self._blocks[number % len(self._blocks)]

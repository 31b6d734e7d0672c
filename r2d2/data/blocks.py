"""Shares memory in which loader processes hand over their batches, and uses it again and again.

New shared memory for every batch would be cleared by the kernel, mapped and unmapped in two processes, which
takes a tenth of the time that making the batch does.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from r2d2.containers import Pair, PairBatch, collate, tensors_in


@dataclass(frozen=True)
class Delivery:
    """A Delivery is what a loader process says of a batch that lies in a block.

    Attributes:
        block: number of the block.
        samples, refused: as of `PairBatch`.
    """

    block: int
    samples: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]


class SharedBlocks:
    """SharedBlocks hold a batch each. A block is written again when nobody holds its batch any more.

    Args:
        count: of blocks.
        pairs: of a batch.
        side: of its images, pixels.
    """

    def __init__(self, count: int, pairs: int, side: int) -> None:
        self._shape = (pairs, side, side)
        self._blocks = torch.empty(count, PairBatch.numbers(*self._shape))
        self._blocks.share_memory_()  # type: ignore[no-untyped-call]
        self._free = deque(range(count))

    def reserve(self, numbers: Iterable[int]) -> Iterator[tuple[int, int | None]]:
        """Yields each number of a batch with the block that it shall lie in; None while all are in use."""
        for number in numbers:
            yield number, self._free.popleft() if self._free else None

    def put(self, block: int | None, pairs: Sequence[Pair]) -> Delivery | PairBatch:
        """Writes a batch into its block, if it has one; runs in a loader process."""
        if block is None:
            return collate(pairs)
        batch = collate(pairs, self._blocks[block])
        return Delivery(block, batch.samples, batch.refused)

    def take(self, delivery: Delivery) -> PairBatch:
        """Takes the batch out of its block, which is free again when all tensors of the batch are gone."""
        # A new array, which lives as long as the tensors that are made of it.
        memory = np.frombuffer(self._blocks[delivery.block].numpy().data, np.float32)
        weakref.finalize(memory, self._free.append, delivery.block).atexit = False
        tensors = tensors_in(torch.from_numpy(memory), *self._shape)
        return PairBatch(*tensors, delivery.samples, delivery.refused)

"""Batches on their way from a loader process: the same numbers, and only names travel beside them."""

import pickle

import pytest
import torch

from r2d2.containers import Pair, collate
from r2d2.data.blocks import SharedBlocks

SIDE = 32


def batch_of(*seeds):
    made = []
    for seed in seeds:
        maps = torch.randn(8, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
        made.append(Pair(maps[:3], maps[3:6], maps[6:], f"pair {seed}", ((f"{seed}.jpg", "is empty"),)))
    return made


def tensors(batch):
    return [batch.image1, batch.image2, batch.aflow]


@pytest.fixture
def blocks():
    return SharedBlocks(3, pairs=2, side=SIDE)


def test_what_is_taken_is_what_was_put(blocks):
    wanted = {number: collate(batch_of(number, number + 100)) for number in range(7)}
    for first in range(0, 7, 3):
        under_way = [blocks.put(k, batch_of(k, k + 100)) for k in range(first, min(first + 3, 7))]
        for delivery in under_way:
            batch, expected = blocks.take(delivery), wanted[delivery.number]
            assert (batch.samples, batch.refused) == (expected.samples, expected.refused)
            assert all(map(torch.equal, tensors(batch), tensors(expected)))
            assert all(tensor.is_contiguous() for tensor in tensors(batch))


def test_what_was_taken_is_not_written_again(blocks):
    taken = blocks.take(blocks.put(0, batch_of(1, 2)))
    blocks.put(3, batch_of(3, 4))
    assert torch.equal(taken.image1, collate(batch_of(1, 2)).image1)


def test_only_names_travel(blocks):
    assert len(pickle.dumps(blocks.put(0, batch_of(1, 2)))) < 500


def test_the_blocks_are_shared(blocks):
    assert blocks._blocks.is_shared()

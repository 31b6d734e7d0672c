"""Batches on their way from a loader process: the same numbers, and only names travel beside them."""

import gc
import pickle
from multiprocessing.reduction import ForkingPickler

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
    return SharedBlocks(2, pairs=2, side=SIDE)


def test_what_is_taken_is_what_was_put(blocks):
    for number in range(5):
        expected = collate(batch_of(number, number + 100))
        ((_, block),) = blocks.reserve([number])
        batch = blocks.take(blocks.put(block, batch_of(number, number + 100)))
        assert (batch.samples, batch.refused) == (expected.samples, expected.refused)
        assert all(map(torch.equal, tensors(batch), tensors(expected)))
        assert all(tensor.is_contiguous() for tensor in tensors(batch))


def test_a_block_is_free_when_the_last_tensor_of_its_batch_is_gone(blocks):
    (_, first), (_, second), (_, third) = blocks.reserve(range(3))
    assert {first, second} == {0, 1}
    assert third is None
    batch = blocks.take(blocks.put(second, batch_of(1, 2)))
    kept = batch.aflow[1]
    del batch
    gc.collect()
    assert list(blocks.reserve([3])) == [(3, None)]
    assert torch.equal(kept, batch_of(2)[0].aflow)
    del kept
    assert list(blocks.reserve([4])) == [(4, second)]


def test_without_a_block_a_batch_has_memory_of_its_own(blocks):
    batch = blocks.put(None, batch_of(1, 2))
    assert all(map(torch.equal, tensors(batch), tensors(collate(batch_of(1, 2)))))


def test_another_process_writes_what_this_one_reads_and_sends_names_only(blocks):
    theirs = pickle.loads(ForkingPickler.dumps(blocks))
    sent = pickle.dumps(theirs.put(1, batch_of(1, 2)))
    assert len(sent) < 500
    assert torch.equal(blocks.take(pickle.loads(sent)).image2, collate(batch_of(1, 2)).image2)

"""Photographs in, batches of training pairs out, the same whichever workers and processes prepare them.

Pair i of an epoch depends on (seed, epoch, i) and the photographs alone. With B pairs a step over all
workers, step k takes the pairs kB to kB + B - 1, and worker r of n makes the r-th of n equal parts of them.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset

from r2d2.config import TrainConfig
from r2d2.containers import Pair, PairBatch, collate
from r2d2.data.images import ImageRefused
from r2d2.data.pairs import make_pair
from r2d2.data.photos import PhotoSet

MAX_BAD_SHARE = 0.01
MAX_LISTED = 10

# A pair for which so many photographs in a row are refused is given up.
MAX_REPLACEMENTS = 20

# Fourth words of the seeds (seed, epoch, number, purpose). The pairs' own seeds have no fourth word, which is
# the same as 0.
_ORDER, _REPLACEMENT = 1, 2


class TooManyBadPhotos(ValueError):  # noqa: N818 (it is named for what happened)
    """More photographs are unusable than an epoch may replace.

    Attributes:
        refused: (file, reason) of those met so far.
        opened: of how many photographs.
    """

    def __init__(self, refused: tuple[tuple[str, str], ...], opened: int) -> None:
        listed = "; ".join(f"{file}: {reason}" for file, reason in refused[:MAX_LISTED])
        more = f"; and {len(refused) - MAX_LISTED} more" if len(refused) > MAX_LISTED else ""
        super().__init__(
            f"{len(refused)} of {opened} photographs cannot be used, which is more than {MAX_BAD_SHARE:.0%}: "
            f"{listed}{more}"
        )
        self.refused = refused
        self.opened = opened

    def __reduce__(self) -> tuple[type[TooManyBadPhotos], tuple[tuple[tuple[str, str], ...], int]]:
        return TooManyBadPhotos, (self.refused, self.opened)


class PairDataset(Dataset[Pair]):
    """The pairs of one epoch by their number.

    An epoch of `pairs_per_epoch` pairs, or one pair per photograph, takes the photographs in a random order,
    and where it needs more of them in further random orders. Instead of a photograph that cannot be used a
    random other one is taken, and the pair says so in `refused`.
    """

    def __init__(self, photos: PhotoSet, config: TrainConfig, epoch: int) -> None:
        self.photos = photos
        self.config = config
        self.epoch = epoch
        count = config.data.pairs_per_epoch or len(photos)
        cycles = range(-(-count // len(photos)))
        orders = [self._rng(cycle, _ORDER).permutation(len(photos)) for cycle in cycles]
        self.order: npt.NDArray[np.int64] = np.concatenate(orders)[:count]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, number: int) -> Pair:
        """Pair `number` of the epoch.

        Raises:
            TooManyBadPhotos: if it finds no usable photograph.
        """
        refused: list[tuple[str, str]] = []
        for photo in self._candidates(number):
            path, name = self.photos.paths[photo], self.photos.names[photo]
            sample = f"{name} epoch {self.epoch} pair {number}"
            try:
                pair = make_pair(path, self.config.data, self._rng(number), sample)
            except ImageRefused as refusal:
                refused.append((refusal.file, refusal.reason))
            else:
                return replace(pair, refused=tuple(refused))
        raise TooManyBadPhotos(tuple(refused), len(refused))

    def _candidates(self, number: int) -> Iterator[int]:
        """The photograph of a pair, then those that may replace it."""
        first = int(self.order[number])
        yield first
        others = self._rng(number, _REPLACEMENT).permutation(len(self.photos))
        yield from others[others != first][:MAX_REPLACEMENTS].tolist()

    def _rng(self, *words: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, self.epoch, *words])


class EpochLoader:
    """The batches of one worker in one epoch; may be iterated again, with the same result.

    Counts the distinct photographs that were refused. More than one, and more than 1 % of those that this
    worker opens in the epoch, end the epoch. Each worker counts its own: it sees its share of the
    photographs, and of the bad ones.
    """

    def __init__(self, pairs: PairDataset, rank: int, num_workers: int) -> None:
        config = pairs.config
        self.processes = config.data.loader_processes
        self.batches = _Batches(pairs, rank, num_workers)
        if len(self.batches) == 0:
            raise ValueError(
                f"an epoch of {len(pairs)} pairs ({len(pairs.photos)} training photographs) does not fill "
                f"one batch of {config.pairs_per_worker} pairs on each of {num_workers} workers; "
                "lower pairs_per_worker or raise data.pairs_per_epoch"
            )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[PairBatch]:
        bad: dict[str, str] = {}
        opened = self.batches.photos_opened()
        for batch in self._prepared():
            if isinstance(batch, TooManyBadPhotos):
                raise batch
            bad.update(batch.refused)
            if len(bad) > max(1, MAX_BAD_SHARE * opened):
                raise TooManyBadPhotos(tuple(bad.items()), opened)
            yield batch

    def _prepared(self) -> Iterator[PairBatch | TooManyBadPhotos]:
        if self.processes == 0:
            yield from (self.batches[k] for k in range(len(self)))
            return
        # Forked from a clean server: quicker than starting afresh, safer than forking a process with threads.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        yield from DataLoader(
            self.batches,
            batch_size=None,
            num_workers=self.processes,
            multiprocessing_context=context,
            worker_init_fn=_end_with_parent,
            # Without its own generator it would draw from the global one.
            generator=torch.Generator(),
        )


def epoch_loader(
    photos: PhotoSet, config: TrainConfig, epoch: int, rank: int = 0, num_workers: int = 1
) -> EpochLoader:
    """The batches of training pairs of one worker in one epoch.

    All workers get equally many; pairs that fill no batch are left out.

    Args:
        photos: what to train on; held-out photographs are not among them.
        config: of the training.
        epoch: number of the epoch.
        rank: number of the worker.
        num_workers: how many there are.

    Raises:
        ValueError: if the epoch does not fill a batch.
        TooManyBadPhotos: while iterating, if more than 1 % of the photographs cannot be used.
    """
    assert 0 <= rank < num_workers
    return EpochLoader(PairDataset(photos, config, epoch), rank, num_workers)


def _end_with_parent(_: int) -> None:
    """In a loader process: ends it when the process that asked for batches is gone, even if killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class _Batches(Dataset["PairBatch | TooManyBadPhotos"]):
    """The batches of one worker by number. A failure is returned: a raised one leaves a process as text."""

    def __init__(self, pairs: PairDataset, rank: int, num_workers: int) -> None:
        self.pairs = pairs
        self.rank = rank
        self.num_workers = num_workers
        self.size = pairs.config.pairs_per_worker

    def __len__(self) -> int:
        return len(self.pairs) // (self.size * self.num_workers)

    def __getitem__(self, number: int) -> PairBatch | TooManyBadPhotos:
        try:
            return collate([self.pairs[i] for i in self._numbers(number)])
        except TooManyBadPhotos as failure:
            return failure

    def photos_opened(self) -> int:
        """How many distinct photographs these batches are made from."""
        numbers = [i for k in range(len(self)) for i in self._numbers(k)]
        return len(np.unique(self.pairs.order[numbers]))

    def _numbers(self, batch: int) -> range:
        first = (batch * self.num_workers + self.rank) * self.size
        return range(first, first + self.size)

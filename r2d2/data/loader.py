"""Makes batches of training pairs of sources, the same whichever workers and processes prepare them.

Pair i of an epoch depends on (seed, epoch, i) and the sources alone. With B pairs a step over all workers,
step k takes the pairs kB to kB + B - 1, and worker r of n makes the r-th of n equal parts of them; one that
stands in for missing workers makes several of these parts.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from r2d2.config import TrainConfig
from r2d2.containers import Deliverable, Pair
from r2d2.data.images import NOTHING, ImageRefused
from r2d2.data.mixture import Mixture
from r2d2.data.pairs.batch_render import PreparedPair, collate_prepared
from r2d2.data.photos import PhotoSet
from r2d2.data.share import Share
from r2d2.storage.errors import PlaceError
from r2d2.storage.files import FileSet

# One in so many photographs may be unusable.
ONE_IN = 100
# Who opens only some of them may by chance meet more bad ones: so many standard deviations more.
CHANCE = 3.0
MAX_LISTED = 10

# Batches that each loader process has made, or is making, before they are asked for.
AHEAD = 2

# A pair for which so many photographs in a row are refused is given up.
MAX_REPLACEMENTS = 20

# Fourth words of the seeds (seed, epoch, number, purpose). The pairs' own seeds have no fourth word, which is
# the same as 0.
_ORDER, _REPLACEMENT = 1, 2


class TooManyBadPhotos(ValueError):  # noqa: N818 (it is named for what happened)
    """Says that more photographs are unusable than an epoch may replace.

    Attributes:
        refused: (file, reason) of those met so far.
        opened: of how many photographs.
        noun: what they are, if not photographs.
    """

    def __init__(self, refused: tuple[tuple[str, str], ...], opened: int, noun: str = "photographs") -> None:
        listed = "; ".join(f"{file}: {reason}" for file, reason in refused[:MAX_LISTED])
        more = f"; and {len(refused) - MAX_LISTED} more" if len(refused) > MAX_LISTED else ""
        super().__init__(
            f"{len(refused)} of {opened} {noun} cannot be used, which is more than {1 / ONE_IN:.0%}: "
            f"{listed}{more}"
        )
        self.refused = refused
        self.opened = opened
        self.noun = noun

    def __reduce__(self) -> tuple[type[TooManyBadPhotos], tuple[tuple[tuple[str, str], ...], int, str]]:
        return TooManyBadPhotos, (self.refused, self.opened, self.noun)


# What ends an epoch.
Failure = TooManyBadPhotos | PlaceError


def most_bad(opened: int, count: int) -> int:
    """Returns how many unusable items an epoch may meet that opens `opened` of `count`.

    It is one in a hundred, at least one. A worker that opens only some of the items (of a short epoch, or
    beside other workers) may meet more of them by chance, and is allowed as many.
    """
    chance = CHANCE * (opened / ONE_IN) ** 0.5 if opened < count else 0.0
    return max(1, opened // ONE_IN + int(chance))


AnyPair = Pair | PreparedPair


class PairDataset(Dataset[AnyPair]):
    """A PairDataset makes the pairs of one epoch by number; it only prepares those a device shall make.

    An epoch of `pairs_per_epoch` pairs, or as many as the sources say (one per photograph), takes the items
    of each source in a random order, and where it needs more of them in further random orders. Instead of an
    item that cannot be used a random other one of its source is taken, and the pair says so in `refused`.
    """

    def __init__(self, source: PhotoSet | Mixture, config: TrainConfig, epoch: int) -> None:
        self.source = Mixture.of(source) if isinstance(source, PhotoSet) else source
        self.config = config
        self.epoch = epoch
        self._make = self.source.prepare if config.data.pixels == "device" else self.source.make
        count = config.data.pairs_per_epoch or self.source.pairs
        self.order: npt.NDArray[np.int64] = self.source.order(count, self._order_rng)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, number: int) -> AnyPair:
        """Makes pair `number` of the epoch.

        Raises:
            TooManyBadPhotos: if it finds no usable item.
            PlaceError: if nothing can be had from the place of an item.
        """
        refused: list[tuple[str, str]] = []
        for item in self._candidates(number):
            sample = f"{self.source.name(item)} epoch {self.epoch} pair {number}"
            try:
                pair = self._make(item, self.config.data, self._rng(number), sample)
            except ImageRefused as refusal:
                refused.append((refusal.file, refusal.reason))
            else:
                return replace(pair, refused=tuple(refused))
        raise TooManyBadPhotos(tuple(refused), len(refused), self.source.noun)

    def prefetch(self, numbers: Iterable[int]) -> None:
        """Says which pairs are made soon, in this order: their files are fetched meanwhile."""
        wanted: dict[int, tuple[FileSet, list[str]]] = {}
        for number in numbers:
            for file in self.source.files(int(self.order[number])):
                wanted.setdefault(id(file.files), (file.files, []))[1].append(file.name)
        for files, names in wanted.values():
            files.prefetch(dict.fromkeys(names))

    def _candidates(self, number: int) -> Iterator[int]:
        """The item of a pair, then those that may replace it."""
        first = int(self.order[number])
        yield first
        same = self.source.range_of(first)
        others = same.start + self._rng(number, _REPLACEMENT).permutation(len(same))
        yield from others[others != first][:MAX_REPLACEMENTS].tolist()

    def _order_rng(self, cycle: int, *source: int) -> np.random.Generator:
        return self._rng(cycle, _ORDER, *source)

    def _rng(self, *words: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, self.epoch, *words])


class BatchDataset(Dataset["Deliverable | Failure"]):
    """Makes the batches of one worker by number. It returns a failure: a raised one would become text."""

    def __init__(self, pairs: PairDataset, share: Share) -> None:
        self.pairs = pairs
        self.share = share
        self.size = pairs.config.pairs_per_worker
        self._announced = False

    def __len__(self) -> int:
        return len(self.pairs) // (self.size * self.share.of) * len(self.share.parts)

    def __getitem__(self, batch: int) -> Deliverable | Failure:
        process = get_worker_info()
        if process is not None and not self._announced:
            # Batches go to the loader processes in turn.
            self._announced = True
            self.prefetch(range(batch, len(self), process.num_workers))
        try:
            return collate_prepared([self.pairs[i] for i in self._numbers(batch)])
        except (TooManyBadPhotos, PlaceError) as failure:
            return failure

    def prefetch(self, batches: Iterable[int]) -> None:
        """Says which batches are made soon by this process."""
        self.pairs.prefetch(i for batch in batches for i in self._numbers(batch))

    def items_opened(self) -> int:
        """Returns how many distinct items these batches are made from."""
        numbers = [i for k in range(len(self)) for i in self._numbers(k)]
        return len(np.unique(self.pairs.order[numbers]))

    def _numbers(self, batch: int) -> range:
        step, place = divmod(batch, len(self.share.parts))
        first = (step * self.share.of + self.share.parts[place]) * self.size
        return range(first, first + self.size)


class EpochLoader:
    """An EpochLoader yields the batches of one worker in one epoch, the same each time.

    A worker of several parts gets as many batches a step, in the order of its share.

    It counts the distinct files that were refused, except images that show nothing. More than one of them,
    and more than `most_bad` allows, end the epoch. Each worker counts the files that it opens itself.
    """

    def __init__(self, pairs: PairDataset, share: Share, start_step: int = 0) -> None:
        config = pairs.config
        self.processes = config.data.loader_processes
        self.first = start_step * len(share.parts)
        self.batches = BatchDataset(pairs, share)
        if len(self.batches) == 0:
            raise ValueError(
                f"an epoch of {len(pairs)} pairs ({len(pairs.source)} training {pairs.source.noun}) does not "
                f"fill one batch of {config.pairs_per_worker} pairs on each of {share.of} workers; "
                "lower pairs_per_worker or raise data.pairs_per_epoch"
            )

    def __len__(self) -> int:
        return max(0, len(self.batches) - self.first)

    def __iter__(self) -> Iterator[Deliverable]:
        bad: dict[str, str] = {}
        source = self.batches.pairs.source
        opened = self.batches.items_opened()
        most = most_bad(opened, len(source))
        for batch in self._prepared():
            if isinstance(batch, Failure):
                raise batch
            # Pictures of nothing come with folders of photographs; the limit is for what cannot be read.
            bad.update((file, reason) for file, reason in batch.refused if reason != NOTHING)
            if len(bad) > most:
                raise TooManyBadPhotos(tuple(bad.items()), opened, source.noun)
            yield batch

    def _prepared(self) -> Iterator[Deliverable | Failure]:
        numbers = range(self.first, len(self.batches))
        if self.processes == 0:
            self.batches.prefetch(numbers)
            for number in numbers:
                yield self.batches[number]
            return
        # Forked from a clean server: quicker than starting afresh, safer than forking a process with threads.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        yield from DataLoader(
            self.batches,
            batch_size=None,
            sampler=numbers,
            num_workers=self.processes,
            prefetch_factor=AHEAD,
            multiprocessing_context=context,
            # Where this process uses a GPU, a thread copies to memory that the GPU reads from, ahead of time.
            pin_memory=torch.cuda.is_initialized(),  # type: ignore[no-untyped-call]
            worker_init_fn=_end_with_parent,
            # Without its own generator it would draw from the global one.
            generator=torch.Generator(),
        )


def epoch_loader(
    source: PhotoSet | Mixture,
    config: TrainConfig,
    epoch: int,
    rank: int = 0,
    num_workers: int = 1,
    start_step: int = 0,
    share: Share | None = None,
) -> EpochLoader:
    """Makes the loader of one worker in one epoch.

    All workers get equally many; pairs that fill no batch are left out.

    Args:
        source: what to train on; nothing held out is in it.
        config: of the training.
        epoch: number of the epoch.
        rank: number of the worker.
        num_workers: how many there are.
        start_step: the first step whose batch is wanted; those from there on are as in a whole epoch.
        share: the parts of a step that the worker makes; None: the one of its number.

    Raises:
        ValueError: if the epoch does not fill a batch.
        TooManyBadPhotos: while iterating, if more than 1 % of the items cannot be used; see `most_bad`.
        PlaceError: while iterating, if nothing can be had from a place any more.
    """
    assert start_step >= 0
    share = share or Share.of_worker(rank, num_workers, num_workers)
    return EpochLoader(PairDataset(source, config, epoch), share, start_step)


def _end_with_parent(_: int) -> None:
    """In a loader process: ends it when the process that asked for batches is gone, even if killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

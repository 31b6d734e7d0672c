"""Trains one epoch: batch -> maps -> loss terms -> step. It knows no cluster and logs nothing."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import nn

from r2d2.config import TrainConfig
from r2d2.containers import Deliverable, PairBatch
from r2d2.data.share import ALONE, Share
from r2d2.schedule import learning_rate
from r2d2.training.device import ahead, arithmetic_of, enough_memory
from r2d2.training.metrics import StepReport
from r2d2.training.step import train_step


class SizedBatches(Protocol):
    """SizedBatches are the batches of one worker in one epoch: a list, or an `EpochLoader`."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Deliverable]: ...


def make_optimiser(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Makes Adam with the configured step size and weight decay (as an L2 penalty, not decoupled)."""
    return torch.optim.Adam(
        network.parameters(),
        lr=config.optimiser.learning_rate,
        weight_decay=config.optimiser.weight_decay,
    )


def train_epoch(
    siamese: nn.Module,
    batches: SizedBatches,
    config: TrainConfig,
    optimiser: torch.optim.Optimizer,
    epoch: int,
    share: Share = ALONE,
    start_step: int = 0,
) -> Iterator[StepReport]:
    """Trains one epoch; each step is done when its first report is asked for.

    Args:
        siamese: a `SiameseNetwork`, or that in `DistributedDataParallel`; batches are moved to its device.
        batches: those of this worker from `start_step` on, one for each of its parts a step. Every epoch must
            have as many: the schedule of the learning rate computes the number of steps from it.
        config: the training.
        optimiser: of the network's parameters.
        epoch: number of the epoch, part of the seed of the queries.
        share: which parts of a step this worker computes; their numbers are part of the seed of the queries.
        start_step: how many steps of the epoch are done already.

    Yields:
        One report per part of a step.

    Raises:
        NonFiniteLoss: before the weights are touched.
        OutOfMemory: if the device has too little for a step. Other workers of the training then wait for this
            one: the caller must stop them, and also if the batches end with an error.
    """
    device = next(siamese.parameters()).device
    siamese.train()
    steps = start_step + len(batches) // len(share.parts)
    before, total = (epoch - 1) * steps, config.epochs * steps
    started = time.perf_counter()
    taken = _by_step(ahead(batches, device), share)
    for step in itertools.count(start_step):
        # Pixels that the device makes take of its memory as well.
        with enough_memory(config, device), arithmetic_of(config.compute, device):
            parts = next(taken, None)
            if parts is None:
                return
            rate = learning_rate(config.optimiser, before + step, total)
            _set_rate(optimiser, rate)
            done = train_step(siamese, parts, config, optimiser, share, (epoch, step))
        now = time.perf_counter()
        for part, values in done:
            yield StepReport(
                step=step,
                part=part.number,
                total=values.total,
                terms=values.terms,
                statistics=values.statistics,
                pairs=len(part.batch),
                invalid_pairs=values.unknown,
                refused=part.refused,
                elapsed=now - started,
                learning_rate=rate,
            )
        started = time.perf_counter()


def _set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def _by_step(
    batches: Iterator[tuple[Deliverable, PairBatch]], share: Share
) -> Iterator[list[tuple[Deliverable, PairBatch]]]:
    """The batches of one step after the other: one for each of the worker's parts."""
    while step := list(itertools.islice(batches, len(share.parts))):
        assert len(step) == len(share.parts), "the batches end in the middle of a step"
        yield step

"""Trains one step of one worker: parts forward and backward, one read of numbers, one weight update."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from r2d2.config import TrainConfig
from r2d2.containers import Deliverable, PairBatch
from r2d2.data.share import Share
from r2d2.losses.pair_loss import pair_loss
from r2d2.training.collapse_signs import measure_signs


class NonFiniteLoss(ValueError):  # noqa: N818 - it says what happened
    """Says that the loss or its gradient is NaN or infinite.

    Attributes:
        what: which value was not finite.
        samples: names of the batch's pairs.
    """

    def __init__(self, what: str, samples: tuple[str, ...]) -> None:
        super().__init__(f"{what}; the batch was: {', '.join(samples)}")
        self.what = what
        self.samples = samples

    def __reduce__(self) -> tuple[type[NonFiniteLoss], tuple[str, tuple[str, ...]]]:
        """Keeps both arguments on the way from a worker to the driver; by default they would be lost."""
        return NonFiniteLoss, (self.what, self.samples)


@dataclass(frozen=True)
class Values:
    """Values hold what a part computed before the weights were moved: see `metrics.StepReport`.

    Attributes:
        unknown: how many of its pairs have no pixel with a known partner.
    """

    unknown: int
    total: float
    terms: dict[str, float]
    statistics: dict[str, float]
    gradient_norm: float


@dataclass(frozen=True)
class Part:
    """A Part holds pairs of a step that pass through the network together.

    Attributes:
        number: of the part within the step.
        batch: its pairs on the network's device.
        refused: photos that were replaced while making the part.
    """

    number: int
    batch: PairBatch
    refused: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Computed:
    """The same as `Values` on the device, not yet read."""

    unknown: Tensor
    total: Tensor
    terms: Mapping[str, Tensor]
    statistics: Mapping[str, Tensor]

    def tensors(self) -> list[Tensor]:
        return [self.unknown, self.total, *self.terms.values(), *self.statistics.values()]

    def values(self, numbers: Iterator[float], gradient_norm: float) -> Values:
        """The numbers of `tensors`, by their names."""
        unknown, total = int(next(numbers)), next(numbers)
        terms = {name: next(numbers) for name in self.terms}
        statistics = {name: next(numbers) for name in self.statistics}
        return Values(unknown, total, terms, statistics, gradient_norm)


def query_generator(seed: int, epoch: int, part: int, step: int) -> torch.Generator:
    """Seeds the queries of one part of a step, on the CPU: alike on every device, and after resuming."""
    state = np.random.SeedSequence([seed, epoch, part, step]).generate_state(1, np.uint32)
    return torch.Generator().manual_seed(int(state[0]))


def train_step(
    siamese: nn.Module,
    batches: Sequence[tuple[Deliverable, PairBatch]],
    config: TrainConfig,
    optimiser: torch.optim.Optimizer,
    share: Share,
    where: tuple[int, int],
) -> list[tuple[Part, Values]]:
    """Trains on the worker's parts of one step. The device is waited for once, before weights are touched.

    Args:
        siamese: a `SiameseNetwork`, or that in `DistributedDataParallel`.
        batches: of each part, as it came and on the network's device.
        config: the training.
        optimiser: of the network's parameters.
        share: which parts they are.
        where: number of the epoch, and of the step in it: with the part's they seed the queries.

    Raises:
        NonFiniteLoss: before the weights are touched.
    """
    epoch, step = where
    parts = [
        Part(number, on_device, came.refused)
        for number, (came, on_device) in zip(share.parts, batches, strict=True)
    ]
    computed = []
    optimiser.zero_grad(set_to_none=True)
    for part in parts:
        generator = query_generator(config.seed, epoch, part.number, step)
        with _last_exchanges(siamese, part is parts[-1]), _first_counts(siamese, part.number, share):
            computed.append(_add_gradient(siamese, part.batch, config, share.weight, generator))
    gradients = [p.grad for p in siamese.parameters() if p.grad is not None]
    read = _read(computed, nn.utils.get_total_norm(gradients))
    for part, values in zip(parts, read, strict=True):
        _check_finite(values, part.batch.samples)
    optimiser.step()
    return list(zip(parts, read, strict=True))


def _add_gradient(
    siamese: nn.Module, batch: PairBatch, config: TrainConfig, weight: float, generator: torch.Generator
) -> _Computed:
    """Adds a part's gradient, times its weight in the worker's, to the parameters'."""
    features1, features2 = siamese(batch.image1, batch.image2)
    loss = pair_loss(features1, features2, batch.aflow, config.loss, generator)
    # Multiplying by one would change nothing but the graph.
    torch.autograd.backward(loss.total if weight == 1 else loss.total * weight)
    statistics = loss.statistics | measure_signs(features1, features2)
    unknown = (~batch.aflow.isfinite().flatten(1).any(dim=1)).sum()
    return _Computed(unknown, loss.total.detach(), loss.terms, statistics)


def _last_exchanges(siamese: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Data-parallel workers exchange the sum of their gradients, with the last part of a step."""
    if last or not isinstance(siamese, nn.parallel.DistributedDataParallel):
        return nullcontext()
    return siamese.no_sync()


@contextmanager
def _first_counts(siamese: nn.Module, part: int, share: Share) -> Iterator[None]:
    """BatchNorm's running statistics follow a worker's first part, as if others computed the others."""
    if part == share.parts[0]:
        yield
        return
    buffers = list(siamese.buffers())
    kept = [buffer.clone() for buffer in buffers]
    yield
    for buffer, value in zip(buffers, kept, strict=True):
        buffer.copy_(value)


def _read(computed: Sequence[_Computed], norm: Tensor) -> list[Values]:
    """The numbers of all parts, in one transfer."""
    tensors = [norm, *(tensor for part in computed for tensor in part.tensors())]
    gradient_norm, *others = torch.stack([tensor.float() for tensor in tensors]).tolist()
    numbers = iter(others)
    return [part.values(numbers, gradient_norm) for part in computed]


def _check_finite(values: Values, samples: tuple[str, ...]) -> None:
    loss = {"total": values.total, **values.terms}
    if not all(math.isfinite(value) for value in loss.values()):
        terms = ", ".join(f"{name} {value:g}" for name, value in loss.items())
        raise NonFiniteLoss(f"the loss is not finite ({terms})", samples)
    norm = values.gradient_norm
    if not math.isfinite(norm):
        raise NonFiniteLoss(f"the gradient of the loss is not finite (its norm is {norm:g})", samples)

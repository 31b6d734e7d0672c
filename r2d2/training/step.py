"""One step of one worker: its parts forward and backward, their numbers read once, the weights moved."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from r2d2.collapse import collapse_tensors
from r2d2.config import TrainConfig
from r2d2.containers import Deliverable, PairBatch
from r2d2.data.share import Share
from r2d2.losses.pair_loss import pair_loss


class NonFiniteLoss(ValueError):  # noqa: N818 - it says what happened
    """The loss or its gradient is NaN or infinite.

    Attributes:
        what: which value was not finite.
        samples: names of the batch's pairs.
    """

    def __init__(self, what: str, samples: tuple[str, ...]) -> None:
        super().__init__(f"{what}; the batch was: {', '.join(samples)}")
        self.what = what
        self.samples = samples

    def __reduce__(self) -> tuple[type[NonFiniteLoss], tuple[str, tuple[str, ...]]]:
        """It travels from a worker to the driver; by default its arguments would be lost."""
        return NonFiniteLoss, (self.what, self.samples)


@dataclass(frozen=True)
class Values:
    """What a piece computed before the weights were moved: see `epoch_metrics.StepReport`."""

    total: float
    terms: dict[str, float]
    statistics: dict[str, float]
    gradient_norm: float


@dataclass(frozen=True)
class Piece:
    """Pairs that pass through the network together: a part of a step, or a piece of one.

    Attributes:
        part: number of the part within the step.
        number: of the piece within its part, of `of` pieces.
        batch: its pairs on the network's device.
        unknown: how many of them have no pixel with a known partner.
        weight: of its gradient in that of the worker.
        refused: photos that were replaced while making the part; told with its first piece.
    """

    part: int
    number: int
    of: int
    batch: PairBatch
    unknown: int
    weight: float
    refused: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Computed:
    """The same as `Values` on the device, not yet read: the loss, its terms and statistics."""

    total: Tensor
    terms: Mapping[str, Tensor]
    statistics: Mapping[str, Tensor]

    def tensors(self) -> list[Tensor]:
        return [self.total, *self.terms.values(), *self.statistics.values()]

    def values(self, numbers: Iterator[float], gradient_norm: float) -> Values:
        """The numbers of `tensors`, by their names."""
        total = next(numbers)
        terms = {name: next(numbers) for name in self.terms}
        return Values(total, terms, {name: next(numbers) for name in self.statistics}, gradient_norm)


def query_generator(seed: int, epoch: int, part: int, step: int, piece: int = 0) -> torch.Generator:
    """The random numbers of one part of a step, on the CPU: the same on every device, and after resuming."""
    # The first piece draws what the whole part draws: a fifth word, even 0, would change the numbers.
    words = [seed, epoch, part, step, *([piece] if piece else [])]
    state = np.random.SeedSequence(words).generate_state(1, np.uint32)
    return torch.Generator().manual_seed(int(state[0]))


def train_step(
    siamese: nn.Module,
    parts: Sequence[tuple[Deliverable, PairBatch]],
    config: TrainConfig,
    optimiser: torch.optim.Optimizer,
    share: Share,
    where: tuple[int, int],
) -> list[tuple[Piece, Values]]:
    """Trains on the worker's parts of one step. The device is waited for once, before weights are touched.

    Args:
        siamese: a `SiameseNetwork`, or that in `DistributedDataParallel`.
        parts: the batch of each part, as it came and on the network's device.
        config: the training.
        optimiser: of the network's parameters.
        share: which parts they are, and in how many pieces each is computed.
        where: number of the epoch, and of the step in it: with the part's they seed the queries.

    Raises:
        NonFiniteLoss: before the weights are touched.
    """
    epoch, step = where
    pieces, computed = _pieces(parts, share), []
    optimiser.zero_grad(set_to_none=True)
    for piece in pieces:
        generator = query_generator(config.seed, epoch, piece.part, step, piece.number)
        with _last_exchanges(siamese, piece is pieces[-1]), _first_counts(siamese, piece.part, share):
            computed.append(_add_gradient(siamese, piece, config, generator))
    gradients = [p.grad for p in siamese.parameters() if p.grad is not None]
    read = _read(computed, nn.utils.get_total_norm(gradients))
    for piece, values in zip(pieces, read, strict=True):
        _check_finite(values, piece.batch.samples)
    optimiser.step()
    return list(zip(pieces, read, strict=True))


def _pieces(parts: Sequence[tuple[Deliverable, PairBatch]], share: Share) -> list[Piece]:
    found = []
    for part, (came, on_device) in zip(share.parts, parts, strict=True):
        # What came says which pairs are known without waiting for the device.
        known = iter(came.known)
        split = on_device.split(share.pieces)
        for number, piece in enumerate(split):
            unknown = sum(not one for one in itertools.islice(known, len(piece)))
            weight = share.weight * (len(piece) / len(came))
            refused = came.refused if number == 0 else ()
            found.append(Piece(part, number, len(split), piece, unknown, weight, refused))
    return found


def _add_gradient(
    siamese: nn.Module, piece: Piece, config: TrainConfig, generator: torch.Generator
) -> _Computed:
    """Adds a piece's gradient to the parameters'."""
    batch = piece.batch
    features1, features2 = siamese(batch.image1, batch.image2)
    loss = pair_loss(features1, features2, batch.aflow, config.loss, generator)
    # Multiplying by one would change nothing but the graph.
    torch.autograd.backward(loss.total if piece.weight == 1 else loss.total * piece.weight)
    statistics = loss.statistics | collapse_tensors(features1, features2)
    return _Computed(loss.total.detach(), loss.terms, statistics)


def _last_exchanges(siamese: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Data-parallel workers exchange the sum of their gradients, with the last piece of a step."""
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
    """The numbers of all pieces, in one transfer."""
    tensors = [norm, *(tensor for piece in computed for tensor in piece.tensors())]
    gradient_norm, *others = torch.stack([tensor.float() for tensor in tensors]).tolist()
    numbers = iter(others)
    return [piece.values(numbers, gradient_norm) for piece in computed]


def _check_finite(values: Values, samples: tuple[str, ...]) -> None:
    loss = {"total": values.total, **values.terms}
    if not all(math.isfinite(value) for value in loss.values()):
        terms = ", ".join(f"{name} {value:g}" for name, value in loss.items())
        raise NonFiniteLoss(f"the loss is not finite ({terms})", samples)
    norm = values.gradient_norm
    if not math.isfinite(norm):
        raise NonFiniteLoss(f"the gradient of the loss is not finite (its norm is {norm:g})", samples)

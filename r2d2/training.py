"""One epoch of training: batch -> maps -> loss terms -> step. Knows no cluster, logs nothing."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from r2d2.collapse import collapse_tensors
from r2d2.compute import ahead, compile_network, enough_memory
from r2d2.config import ComputeConfig, TrainConfig
from r2d2.containers import DenseFeatures, PairBatch
from r2d2.losses import pair_loss
from r2d2.schedule import learning_rate
from r2d2.share import ALONE, Share

# The signs of a collapse are those of the last steps of an epoch, not of its whole history.
LAST_STEPS = 10

# Metrics that add up over parts; of all others the mean is taken.
_SUMMED = (
    "train/pairs",
    "train/invalid_pairs",
    "train/pairs_without_query",
    "train/refused_photos",
    "train/pairs_per_second",
)


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


class SizedBatches(Protocol):
    """The batches of one worker in one epoch: a list, or an `EpochLoader`."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[PairBatch]: ...


class SiameseNetwork(nn.Module):
    """One network for both images of a pair, in a single `forward`, as data-parallel training needs it.

    The images 1 and the images 2 pass through the network one after the other, so that BatchNorm normalises
    each by its own statistics.

    Args:
        network: image (B, 3, H, W) -> DenseFeatures.
        frozen_statistics: BatchNorm keeps its statistics, and uses them, in training too.
        compute: the network's arithmetic, "bfloat16" by autocast of its layers, and whether it is compiled.
            Its maps, and with them the losses, are in float32 either way.

    Raises:
        ValueError: if it shall be compiled and this machine cannot; for the device its weights are on.
    """

    def __init__(
        self, network: nn.Module, frozen_statistics: bool = False, compute: ComputeConfig | None = None
    ) -> None:
        super().__init__()
        compute = compute or ComputeConfig()
        self.network = network
        self.frozen_statistics = frozen_statistics
        self.autocast = compute.precision == "bfloat16"
        if compute.compile:
            compile_network(network, next(network.parameters()).device)

    def forward(self, image1: Tensor, image2: Tensor) -> tuple[DenseFeatures, DenseFeatures]:
        """The maps of images 1 and of images 2, (B, 3, H, W) each."""
        with torch.autocast(image1.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            return self.network(image1), self.network(image2)

    def train(self, mode: bool = True) -> SiameseNetwork:
        """Sets training mode, but for BatchNorm with frozen statistics."""
        super().train(mode)
        if self.frozen_statistics:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self


@dataclass(frozen=True)
class StepReport:
    """What one part of a step did, or one piece of a part.

    Attributes:
        step: number within the epoch, from 0.
        part: number of the part within the step, from 0.
        total: the loss before the step.
        terms: its terms "reliability", "similarity", "peakiness", before weighting.
        statistics: those of `losses.LossTerms` and of `collapse.collapse_tensors`.
        pairs: number of pairs in the batch.
        invalid_pairs: how many of them have no pixel with a known partner.
        refused: (file, reason) of photos that were replaced while making the batch.
        elapsed: seconds of the step, waiting for its batches included; divided among the pieces of a part.
        learning_rate: of the step.
    """

    step: int
    part: int
    total: float
    terms: dict[str, float]
    statistics: dict[str, float]
    pairs: int
    invalid_pairs: int
    refused: tuple[tuple[str, str], ...]
    elapsed: float
    learning_rate: float


def make_optimiser(network: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Adam with the configured step size and weight decay (as an L2 penalty, not decoupled)."""
    return torch.optim.Adam(
        network.parameters(),
        lr=config.optimiser.learning_rate,
        weight_decay=config.optimiser.weight_decay,
    )


def query_generator(seed: int, epoch: int, part: int, step: int, piece: int = 0) -> torch.Generator:
    """The random numbers of one part of a step, on the CPU: the same on every device, and after resuming."""
    # The first piece draws what the whole part draws: a fifth word, even 0, would change the numbers.
    words = [seed, epoch, part, step, *([piece] if piece else [])]
    state = np.random.SeedSequence(words).generate_state(1, np.uint32)
    return torch.Generator().manual_seed(int(state[0]))


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
        batches: those of this worker from `start_step` on, one for each of its parts a step; as many in every
            epoch, which is how the learning rate's schedule knows the step's number and how many there will
            be.
        config: the training.
        optimiser: of the network's parameters.
        epoch: number of the epoch, part of the seed of the queries.
        share: which parts of a step this worker computes; their numbers are part of the seed of the queries.
        start_step: how many steps of the epoch are done already.

    Yields:
        One report per part of a step, several if parts are computed in pieces.

    Raises:
        NonFiniteLoss: before the weights are touched.
        OutOfMemory: if the device has too little for a step. Other workers of the same training then wait for
            this one, and must be stopped by whoever started them; as if the batches end with an error.
    """
    device = next(siamese.parameters()).device
    siamese.train()
    steps = start_step + len(batches) // len(share.parts)
    before, total = (epoch - 1) * steps, config.epochs * steps
    started = time.perf_counter()
    for step, parts in enumerate(_by_step(ahead(batches, device), share), start_step):
        rate = learning_rate(config.optimiser, before + step, total)
        for group in optimiser.param_groups:
            group["lr"] = rate
        with enough_memory(config, device, share.pieces):
            done = _train_step(siamese, parts, config, optimiser, share, (epoch, step))
        now = time.perf_counter()
        for piece, values in done:
            yield StepReport(
                step=step,
                part=piece.part,
                total=values.total,
                terms=values.terms,
                statistics=values.statistics,
                pairs=len(piece.batch),
                invalid_pairs=piece.batch.invalid,
                refused=piece.refused,
                elapsed=(now - started) / piece.of,
                learning_rate=rate,
            )
        started = time.perf_counter()


def _by_step(
    batches: Iterator[tuple[PairBatch, PairBatch]], share: Share
) -> Iterator[list[tuple[PairBatch, PairBatch]]]:
    """The batches of one step after the other: one for each of the worker's parts."""
    while step := list(itertools.islice(batches, len(share.parts))):
        assert len(step) == len(share.parts), "the batches end in the middle of a step"
        yield step


def summarise(reports: Sequence[StepReport]) -> dict[str, float]:
    """The metrics of an epoch from the reports of one part of its steps.

    Returns:
        `train/loss_total`, `train/loss_<term>`: means over pairs; `train/valid_queries`: mean over steps;
        `train/query_reliability`: mean over valid queries (left out if there were none);
        `train/pairs`, `train/invalid_pairs`, `train/pairs_without_query`: counts;
        `train/refused_photos`: number of different files; `train/pairs_per_second`;
        `train/learning_rate`: of the last step;
        `train/collapse_*`: see `collapse_tensors`, means over the last steps.
    """
    assert reports, "an epoch has at least one step"
    pairs = [report.pairs for report in reports]
    queries = [report.statistics["valid_queries"] for report in reports]
    metrics = {"train/loss_total": _mean([report.total for report in reports], pairs)}
    for term in reports[0].terms:
        metrics[f"train/loss_{term}"] = _mean([report.terms[term] for report in reports], pairs)
    metrics["train/valid_queries"] = sum(queries) / len(queries)
    if any(queries):
        reliabilities = [report.statistics["query_reliability"] for report in reports]
        metrics["train/query_reliability"] = _mean(reliabilities, queries)
    metrics["train/pairs"] = float(sum(pairs))
    metrics["train/invalid_pairs"] = float(sum(report.invalid_pairs for report in reports))
    metrics["train/pairs_without_query"] = sum(r.statistics["pairs_without_query"] for r in reports)
    metrics["train/refused_photos"] = float(len({file for r in reports for file, _ in r.refused}))
    metrics["train/pairs_per_second"] = sum(pairs) / sum(report.elapsed for report in reports)
    metrics["train/learning_rate"] = reports[-1].learning_rate
    last = reports[-LAST_STEPS:]
    for name in last[0].statistics:
        if name.startswith("collapse_"):
            metrics[f"train/{name}"] = sum(r.statistics[name] for r in last) / len(last)
    return metrics


def combine_workers(metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The metrics of all parts from those of each: sums of counts and speeds, means of the rest."""
    keys = {key: None for worker in metrics for key in worker}
    combined = {}
    for key in keys:
        values = [worker[key] for worker in metrics if key in worker]
        combined[key] = sum(values) / (1 if key in _SUMMED else len(values))
    return combined


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


@dataclass(frozen=True)
class _Values:
    """What a step computed: see `StepReport`."""

    total: float
    terms: dict[str, float]
    statistics: dict[str, float]
    gradient_norm: float


@dataclass(frozen=True)
class _Piece:
    """Pairs that pass through the network together: a part of a step, or a piece of one.

    Attributes:
        part: number of the part within the step.
        number: of the piece within its part, of `of` pieces.
        batch: its pairs as they came, for names and counts.
        on_device: the same on the network's device.
        weight: of its gradient in that of the worker.
        refused: photos that were replaced while making the part; told with its first piece.
    """

    part: int
    number: int
    of: int
    batch: PairBatch
    on_device: PairBatch
    weight: float
    refused: tuple[tuple[str, str], ...]


def _pieces(parts: Sequence[tuple[PairBatch, PairBatch]], share: Share) -> list[_Piece]:
    found = []
    for part, (batch, on_device) in zip(share.parts, parts, strict=True):
        if share.pieces == 1:
            found.append(_Piece(part, 0, 1, batch, on_device, share.weight, batch.refused))
            continue
        split = list(zip(batch.split(share.pieces), on_device.split(share.pieces), strict=True))
        for number, (piece, there) in enumerate(split):
            weight = share.weight * len(piece) / len(batch)
            refused = batch.refused if number == 0 else ()
            found.append(_Piece(part, number, len(split), piece, there, weight, refused))
    return found


def _train_step(
    siamese: nn.Module,
    parts: Sequence[tuple[PairBatch, PairBatch]],
    config: TrainConfig,
    optimiser: torch.optim.Optimizer,
    share: Share,
    where: tuple[int, int],
) -> list[tuple[_Piece, _Values]]:
    """Trains on the worker's parts of one step. The device is waited for once, before weights are touched."""
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


def _add_gradient(
    siamese: nn.Module, piece: _Piece, config: TrainConfig, generator: torch.Generator
) -> dict[str, Tensor]:
    """Adds a piece's gradient to the parameters'; returns its loss, terms and statistics, not yet read."""
    batch = piece.on_device
    features1, features2 = siamese(batch.image1, batch.image2)
    loss = pair_loss(features1, features2, batch.aflow, config.loss, generator)
    # Multiplying by one would change nothing but the graph.
    torch.autograd.backward(loss.total if piece.weight == 1 else loss.total * piece.weight)
    statistics = loss.statistics | collapse_tensors(features1, features2)
    named = {"total": loss.total.detach()}
    named |= {f"{_TERM}{name}": value for name, value in loss.terms.items()}
    return named | {f"{_STATISTIC}{name}": value for name, value in statistics.items()}


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


# Prefixes of what a step computes, until it is read.
_TERM, _STATISTIC = "term ", "statistic "


def _read(computed: Sequence[Mapping[str, Tensor]], norm: Tensor) -> list[_Values]:
    """The numbers of all pieces, in one transfer."""
    tensors = [norm, *(tensor for named in computed for tensor in named.values())]
    read_norm, *others = torch.stack([tensor.float() for tensor in tensors]).tolist()
    numbers = iter(others)
    found = []
    for named in computed:
        values = {name: next(numbers) for name in named}
        found.append(_Values(values["total"], _with(values, _TERM), _with(values, _STATISTIC), read_norm))
    return found


def _with(values: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {name.removeprefix(prefix): v for name, v in values.items() if name.startswith(prefix)}


def _check_finite(values: _Values, samples: tuple[str, ...]) -> None:
    loss = {"total": values.total, **values.terms}
    if not all(math.isfinite(value) for value in loss.values()):
        terms = ", ".join(f"{name} {value:g}" for name, value in loss.items())
        raise NonFiniteLoss(f"the loss is not finite ({terms})", samples)
    norm = values.gradient_norm
    if not math.isfinite(norm):
        raise NonFiniteLoss(f"the gradient of the loss is not finite (its norm is {norm:g})", samples)

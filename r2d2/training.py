"""One epoch of training: batch -> maps -> loss terms -> step. Knows no cluster, logs nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
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

# The signs of a collapse are those of the last steps of an epoch, not of its whole history.
LAST_STEPS = 10

# Metrics that add up over workers; of all others the mean is taken.
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
    """What one step of one worker did.

    Attributes:
        step: number within the epoch, from 0.
        total: the loss before the step.
        terms: its terms "reliability", "similarity", "peakiness", before weighting.
        statistics: those of `losses.LossTerms` and of `collapse.collapse_tensors`.
        pairs: number of pairs in the batch.
        invalid_pairs: how many of them have no pixel with a known partner.
        refused: (file, reason) of photos that were replaced while making the batch.
        elapsed: seconds, waiting for the batch included.
        learning_rate: of the step.
    """

    step: int
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


def query_generator(seed: int, epoch: int, rank: int, step: int) -> torch.Generator:
    """The random numbers of one step, on the CPU: the same on every device, and after resuming."""
    state = np.random.SeedSequence([seed, epoch, rank, step]).generate_state(1, np.uint32)
    return torch.Generator().manual_seed(int(state[0]))


def train_epoch(
    siamese: nn.Module,
    batches: SizedBatches,
    config: TrainConfig,
    optimiser: torch.optim.Optimizer,
    epoch: int,
    rank: int = 0,
) -> Iterator[StepReport]:
    """Trains one epoch; each step is done when its report is asked for.

    Args:
        siamese: a `SiameseNetwork`, or that in `DistributedDataParallel`; batches are moved to its device.
        batches: those of this worker; as many in every epoch, which is how the learning rate's schedule
            knows the step's number and how many there will be.
        config: the training.
        optimiser: of the network's parameters.
        epoch: number of the epoch, part of the seed of the queries.
        rank: number of this worker, part of the seed of the queries.

    Raises:
        NonFiniteLoss: before the weights are touched.
        OutOfMemory: if the device has too little for a step. Other workers of the same training then wait for
            this one, and must be stopped by whoever started them; as if the batches end with an error.
    """
    device = next(siamese.parameters()).device
    siamese.train()
    before, total = (epoch - 1) * len(batches), config.epochs * len(batches)
    started = time.perf_counter()
    for step, (batch, on_device) in enumerate(ahead(batches, device)):
        rate = learning_rate(config.optimiser, before + step, total)
        for group in optimiser.param_groups:
            group["lr"] = rate
        generator = query_generator(config.seed, epoch, rank, step)
        with enough_memory(config, device):
            done = _train_step(siamese, on_device, config, optimiser, generator)
        now = time.perf_counter()
        yield StepReport(
            step=step,
            total=done.total,
            terms=done.terms,
            statistics=done.statistics,
            pairs=len(batch),
            invalid_pairs=batch.invalid,
            refused=batch.refused,
            elapsed=now - started,
            learning_rate=rate,
        )
        started = time.perf_counter()


def summarise(reports: Sequence[StepReport]) -> dict[str, float]:
    """The metrics of an epoch of one worker.

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
    """The metrics of all workers from those of each: sums of counts and speeds, means of the rest."""
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


def _train_step(
    siamese: nn.Module,
    batch: PairBatch,
    config: TrainConfig,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> _Values:
    """Trains on one batch. The device is waited for once, before the weights are touched."""
    features1, features2 = siamese(batch.image1, batch.image2)
    loss = pair_loss(features1, features2, batch.aflow, config.loss, generator)
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(loss.total)
    gradients = [p.grad for p in siamese.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    statistics = loss.statistics | collapse_tensors(features1, features2)
    values = _read(loss.total.detach(), loss.terms, statistics, norm)
    _check_finite(values, batch.samples)
    optimiser.step()
    return values


def _read(total: Tensor, terms: dict[str, Tensor], statistics: dict[str, Tensor], norm: Tensor) -> _Values:
    tensors = [total, norm, *terms.values(), *statistics.values()]
    read_total, read_norm, *others = torch.stack([tensor.float() for tensor in tensors]).tolist()
    return _Values(
        total=read_total,
        terms=dict(zip(terms, others[: len(terms)], strict=True)),
        statistics=dict(zip(statistics, others[len(terms) :], strict=True)),
        gradient_norm=read_norm,
    )


def _check_finite(values: _Values, samples: tuple[str, ...]) -> None:
    loss = {"total": values.total, **values.terms}
    if not all(math.isfinite(value) for value in loss.values()):
        terms = ", ".join(f"{name} {value:g}" for name, value in loss.items())
        raise NonFiniteLoss(f"the loss is not finite ({terms})", samples)
    norm = values.gradient_norm
    if not math.isfinite(norm):
        raise NonFiniteLoss(f"the gradient of the loss is not finite (its norm is {norm:g})", samples)

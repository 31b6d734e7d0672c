"""One data-parallel worker: r2d2.training inside Ray Train. Reports to Ray and to the trial's history."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
import torch.distributed

from r2d2.checkpoint import load_checkpoint, restore_optimiser, save_checkpoint
from r2d2.config import TrainConfig
from r2d2.data.loader import epoch_loader
from r2d2.data.mixture import Mixture
from r2d2.data.training_data import open_training_data
from r2d2.network import R2D2Network
from r2d2.start import starting_network
from r2d2.storage.cache import CacheSettings
from r2d2.training import (
    SiameseNetwork,
    StepReport,
    combine_workers,
    make_optimiser,
    summarise,
    train_epoch,
)
from runner.attempt import Attempt
from runner.history import HISTORY, TRAIN, History, Record, write_json

PROGRESS = "progress.json"
PROGRESS_SECONDS = 2.0


@dataclass(frozen=True)
class WorkerTask:
    """What a worker is told: a plain value, sent as a dictionary.

    Attributes:
        config: TrainConfig as a dictionary.
        init: where the starting weights are; "scratch" or a model's path.
        trial_folder: the trial's folder.
        started: when the trial was started, seconds since 1970.
        objects: CacheSettings as a dictionary: where a node keeps what is on S3; None: nowhere.
        attempt: Attempt as a dictionary: the turn for which it writes; None: nobody else can write.
    """

    config: dict[str, Any]
    init: str
    trial_folder: str
    started: float
    objects: dict[str, Any] | None = None
    attempt: dict[str, Any] | None = None

    @property
    def turn(self) -> Attempt | None:
        """The attempt as a value."""
        return None if self.attempt is None else Attempt(**self.attempt)

    def to_dict(self) -> dict[str, Any]:
        """The dictionary that Ray Train hands to every worker."""
        return asdict(self)


def train_worker(arguments: dict[str, Any]) -> None:
    """Trains from the last checkpoint (or the start) to the last epoch; every epoch leaves a checkpoint."""
    task = WorkerTask(**arguments)
    entered = time.time() - task.started
    context = ray.train.get_context()
    worker = _Worker(
        task, TrainConfig.from_dict(task.config), context.get_world_rank(), context.get_world_size()
    )
    worker.startup["startup/worker_entered"] = entered
    worker.run()


def data_parallel(siamese: SiameseNetwork, num_workers: int) -> torch.nn.Module:
    """The network with its gradients averaged over the workers; batch statistics stay those of each one."""
    if num_workers == 1:
        return siamese
    return torch.nn.parallel.DistributedDataParallel(siamese, broadcast_buffers=False)


@dataclass
class _Worker:
    """The worker of one rank.

    Attributes:
        startup: seconds from the trial's start to the stations on the way to the first step.
    """

    task: WorkerTask
    config: TrainConfig
    rank: int
    num_workers: int
    startup: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """Trains every epoch that has no checkpoint yet."""
        objects = self.task.objects
        data = open_training_data(self.config.data, None if objects is None else CacheSettings(**objects))
        network = starting_network(self.config, self.task.init)
        network.to(ray.train.torch.get_device())
        siamese = SiameseNetwork(network, compute=self.config.compute)
        optimiser = make_optimiser(network, self.config)
        done = _resume(network, optimiser)
        parallel = data_parallel(siamese, self.num_workers)
        self._passed("startup/ready")
        for epoch in range(done + 1, self.config.epochs + 1):
            metrics = self._train(parallel, data.training, optimiser, epoch)
            self._report(network, optimiser, epoch, self._all_workers(metrics))
            self.startup = {}

    def _passed(self, station: str) -> None:
        self.startup.setdefault(station, time.time() - self.task.started)

    def _train(
        self, siamese: torch.nn.Module, source: Mixture, optimiser: torch.optim.Optimizer, epoch: int
    ) -> dict[str, float]:
        batches = epoch_loader(source, self.config, epoch, self.rank, self.num_workers)
        reports: list[StepReport] = []
        shown = -PROGRESS_SECONDS
        for report in train_epoch(siamese, batches, self.config, optimiser, epoch, self.rank):
            reports.append(report)
            self._passed("startup/first_step")
            if self.rank == 0 and time.monotonic() - shown > PROGRESS_SECONDS:
                shown = time.monotonic()
                if self.task.turn is not None:
                    self.task.turn.require_going()
                progress = {"epoch": epoch, "step": len(reports), "steps": len(batches)}
                write_json(Path(self.task.trial_folder) / PROGRESS, progress)
        return {**summarise(reports), **(self.startup if epoch == 1 else {})}

    def _all_workers(self, metrics: dict[str, float]) -> dict[str, float]:
        """The metrics of all workers together; every worker takes part."""
        if self.num_workers == 1:
            return metrics
        gathered: list[dict[str, float]] = [{} for _ in range(self.num_workers)]
        torch.distributed.all_gather_object(gathered, metrics)
        return combine_workers(gathered)

    def _report(
        self, network: R2D2Network, optimiser: torch.optim.Optimizer, epoch: int, metrics: dict[str, float]
    ) -> None:
        """Hands the epoch's checkpoint to Ray Train, which asks for its score. Every worker takes part.

        The history is written first: whoever finds the checkpoint also finds how it was trained.
        """
        if self.rank != 0:
            ray.train.report({"epoch": epoch})
            return
        folder, name = Path(self.task.trial_folder), f"checkpoint_{epoch:03d}"
        with tempfile.TemporaryDirectory() as temporary:
            local = Path(temporary) / name
            save_checkpoint(local, network, self.config, epoch, optimiser, metrics)
            history = History(folder / HISTORY, self.task.turn)
            history.write(Record(epoch, TRAIN, metrics, str(folder / TRAIN / name)))
            ray.train.report(
                {"epoch": epoch},
                checkpoint=ray.train.Checkpoint.from_directory(str(local)),
                checkpoint_dir_name=name,
                validation=ray.train.ValidationTaskConfig(fn_kwargs={"epoch": epoch}),
            )


def _resume(network: R2D2Network, optimiser: torch.optim.Optimizer) -> int:
    """Restores weights and optimiser from Ray Train's last checkpoint; returns its epoch, 0 without one."""
    handed = ray.train.get_checkpoint()
    if handed is None:
        return 0
    with handed.as_directory() as folder:
        checkpoint = load_checkpoint(Path(folder))
    network.load_state_dict(checkpoint.network.state_dict())
    restore_optimiser(optimiser, checkpoint)
    return checkpoint.epoch

"""Runs r2d2.training in one data-parallel worker, and reports to Ray and to the trial's history."""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import ray.train
import ray.train.torch
import torch
import torch.distributed

from r2d2.checkpoint import load_checkpoint, restore_optimiser, save_checkpoint
from r2d2.config import TrainConfig
from r2d2.data.loader import epoch_loader
from r2d2.data.mixture import Mixture
from r2d2.data.share import Share
from r2d2.data.training_data import open_training_data
from r2d2.network import R2D2Network
from r2d2.processor.allocator import keep_memory
from r2d2.processor.kind import this_processor
from r2d2.processor.memory import limit_memory
from r2d2.start import starting_network
from r2d2.storage.cache import CacheSettings
from r2d2.storage.errors import full_disk_of
from r2d2.storage.location import fetched
from r2d2.storage.scratch import scratch_folder
from r2d2.training.epoch import make_optimiser, train_epoch
from r2d2.training.metrics import StepReport
from r2d2.training.siamese import SiameseNetwork
from runner.record.attempt import AttemptWatch, HaltedError, SupersededError
from runner.record.checkpoints import checkpoint_place
from runner.record.history import TRAIN, History, Record
from runner.record.incidents import HANGING, RESIZED, record_incident
from runner.record.layout import HISTORY, TRAIN_RUN, checkpoint_name
from runner.record.provenance import note_processor
from runner.trial.partial_epoch import PartialEpoch, merged
from runner.trial.placement_group_cleanup import note_reservation
from runner.trial.preemption import Notice, Preempted
from runner.trial.progress import PROGRESS_SECONDS, ProgressWriter
from runner.trial.storage import last_checkpoint, uploader
from runner.trial.task import WorkerTask
from runner.trial.watchdog import Watchdog


def work(task: WorkerTask) -> None:
    """Trains from the last checkpoint (or the start) to the last epoch; every epoch leaves a checkpoint.

    Raises:
        Preempted: after a checkpoint, if a node of this training will be taken away.
        HaltedError: after a checkpoint, if the sweep was asked to stop.
        DiskFull: if a disk of this node is.
    """
    entered = time.time() - task.started
    # Ray's OMP_NUM_THREADS counts loader processes too.
    torch.set_num_threads(task.threads)
    keep_memory()
    context = ray.train.get_context()
    rank, config = context.get_world_rank(), TrainConfig.from_dict(task.config)
    attempt = task.own_attempt
    history = History(task.trial.below(HISTORY), attempt)

    if rank == 0:
        note_reservation(task.trial, attempt)

    def record_silence(silence: str) -> None:
        text = f"worker {rank} gave {silence}; all workers start again from the last checkpoint"
        with contextlib.suppress(SupersededError):
            record_incident(history, HANGING, text)

    # The first worker speaks for all.
    watched = attempt if rank == 0 else None
    with Watchdog(task.silence, record_silence) as watchdog, AttemptWatch(watched) as watch:
        worker = _Worker(task, config, rank, context.get_world_size(), history, watchdog, watch)
        worker.startup["worker/entered_s"] = entered
        with full_disk_of(ray.util.get_node_ip_address()):  # type: ignore[no-untyped-call]
            worker.run()


def data_parallel(siamese: SiameseNetwork, num_workers: int) -> torch.nn.Module:
    """Wraps the network: gradients are averaged over the workers; each has its own batch statistics."""
    if num_workers == 1:
        return siamese
    return torch.nn.parallel.DistributedDataParallel(siamese, broadcast_buffers=False)


@dataclass(frozen=True)
class _Trained:
    """Holds what a worker trains: the network, the same with exchange between workers, and its optimiser."""

    network: R2D2Network
    parallel: torch.nn.Module
    optimiser: torch.optim.Optimizer


@dataclass
class _Worker:
    """The worker of one rank.

    Attributes:
        num_workers: how many there are; fewer than configured if the trial does not wait for all.
        startup: seconds from the trial's start to each stage before the first step.
    """

    task: WorkerTask
    config: TrainConfig
    rank: int
    num_workers: int
    history: History
    watchdog: Watchdog
    watch: AttemptWatch
    startup: dict[str, float] = field(default_factory=dict)
    notice: Notice = field(init=False)

    def __post_init__(self) -> None:
        self.notice = Notice(self.task.driver_node, lambda: self.watch.stop_asked)

    @property
    def share(self) -> Share:
        """Returns the parts of a step that this worker computes."""
        return Share.of_worker(self.rank, self.num_workers, self.config.num_workers)

    @functools.cached_property
    def progress(self) -> ProgressWriter:
        """Writes down how far the epoch is."""
        return ProgressWriter(self.task.trial)

    def run(self) -> None:
        """Trains every epoch that has no checkpoint yet, the first of them from where it was left."""
        self.watchdog.alive("opening the training data")
        objects = self.task.objects
        data = open_training_data(self.config.data, None if objects is None else CacheSettings(**objects))
        network = starting_network(self.config, self.task.init)
        device = ray.train.torch.get_device()
        limit_memory(self.task.gpus, device)
        if self.rank == 0:
            note_processor(self.task.trial, this_processor(device, self.task.threads))
        network.to(device)
        siamese = SiameseNetwork(network, compute=self.config.compute)
        optimiser = make_optimiser(network, self.config)
        partial = _resume(network, optimiser, self.task)
        self._tell_size(partial)
        trained = _Trained(network, data_parallel(siamese, self.num_workers), optimiser)
        self._passed("worker/ready_s")
        for epoch in range(partial.epoch, self.config.epochs + 1):
            begun = partial if partial.epoch == epoch else PartialEpoch(epoch)
            done = self._train(trained, data.training, begun.of_parts(self.share.parts))
            whole = self._all_parts(done)
            self._report(trained, epoch, whole.metrics() | (self.startup if epoch == 1 else {}))
            self.startup = {}

    def _passed(self, station: str) -> None:
        self.startup.setdefault(station, time.time() - self.task.started)

    def _tell_size(self, partial: PartialEpoch) -> None:
        if self.rank == 0 and self.num_workers != self.config.num_workers:
            text = (
                f"epoch {partial.epoch} goes on at step {partial.steps} with {self.num_workers} of "
                f"{self.config.num_workers} workers, which compute the parts of the missing ones too: the "
                "pairs of a step and its loss stay the same"
            )
            record_incident(self.history, RESIZED, text)

    def _train(self, trained: _Trained, source: Mixture, partial: PartialEpoch) -> PartialEpoch:
        """Trains an epoch to its end; returns the reports of this worker's parts."""
        epoch, share, start = partial.epoch, self.share, partial.steps
        batches = epoch_loader(source, self.config, epoch, share=share, start_step=start)
        steps = start + len(batches) // len(share.parts)
        reports = train_epoch(trained.parallel, batches, self.config, trained.optimiser, epoch, share, start)
        shown = -PROGRESS_SECONDS
        self.watchdog.alive(f"in epoch {epoch}, before its next step")
        while step := self._next_step(reports):
            for report in step:
                partial.add(report)
            self._passed("worker/first_step_s")
            self.watchdog.alive(f"in epoch {epoch}, after step {partial.steps} of {steps}")
            if self.rank == 0 and time.monotonic() - shown > PROGRESS_SECONDS:
                shown = time.monotonic()
                if self.watch.superseded:
                    self.history.require_current()
                progress = {"epoch": epoch, "step": partial.steps, "steps": steps}
                self.progress.write(progress)
            self._between_steps(trained, partial, steps)
        return partial

    def _next_step(self, reports: Iterator[StepReport]) -> list[StepReport]:
        """Trains the next step; returns its reports, none if the epoch has ended."""
        return list(itertools.islice(reports, len(self.share.parts)))

    def _between_steps(self, trained: _Trained, partial: PartialEpoch, steps: int) -> None:
        """Leaves a checkpoint if one is due, a node will be taken away, or the sweep was asked to stop."""
        if partial.steps == steps:
            # The epoch's own checkpoint comes at once.
            return
        every = self.task.checkpoint_steps
        leaves = self.notice.given()
        if leaves or (every and partial.steps % every == 0):
            self._report_partial(trained, partial)
        if leaves and self.watch.stop_asked:
            raise HaltedError(
                f"the sweep was asked to stop; epoch {partial.epoch} is kept up to step {partial.steps} of "
                f"{steps}"
            )
        if leaves:
            raise Preempted(
                f"a node of this training will be taken away; epoch {partial.epoch} is kept up to step "
                f"{partial.steps} of {steps}"
            )

    def _all_parts(self, partial: PartialEpoch) -> PartialEpoch:
        """Gathers the reports of all parts; every worker takes part."""
        if self.num_workers == 1:
            return merged([partial])
        gathered: list[PartialEpoch] = [partial] * self.num_workers
        torch.distributed.all_gather_object(gathered, partial)
        return merged(gathered)

    def _report_partial(self, trained: _Trained, partial: PartialEpoch) -> None:
        """Hands a checkpoint in mid-epoch to Ray Train; nobody scores it. Every worker takes part."""
        whole, step = self._all_parts(partial), partial.steps
        metrics = {"epoch": partial.epoch - 1, "step": step}
        if self.rank != 0:
            ray.train.report(metrics)
            return
        name = checkpoint_name(partial.epoch, step)
        with scratch_folder() as scratch:
            local = scratch / name
            done = partial.epoch - 1
            save_checkpoint(local, trained.network, self.config, done, trained.optimiser, step=step)
            whole.save(local)
            handed = ray.train.Checkpoint.from_directory(str(local))
            ray.train.report(
                metrics,
                checkpoint=handed,
                checkpoint_dir_name=name,
                checkpoint_upload_fn=uploader(self.task.trial),
            )

    def _report(self, trained: _Trained, epoch: int, metrics: dict[str, float]) -> None:
        """Hands the epoch's checkpoint to Ray Train, which asks for its score. Every worker takes part.

        The history is written first, so that every checkpoint has its training event.
        """
        if self.rank != 0:
            ray.train.report({"epoch": epoch})
            return
        trial, name = self.task.trial, checkpoint_name(epoch)
        with scratch_folder() as scratch:
            local = scratch / name
            save_checkpoint(local, trained.network, self.config, epoch, trained.optimiser, metrics)
            place = trial.below(f"{TRAIN_RUN}/{name}").place
            self.history.write(Record(epoch, TRAIN, metrics, place))
            ray.train.report(
                {"epoch": epoch},
                checkpoint=ray.train.Checkpoint.from_directory(str(local)),
                checkpoint_dir_name=name,
                checkpoint_upload_fn=uploader(trial),
                validation=ray.train.ValidationTaskConfig(fn_kwargs={"epoch": epoch}),
            )


def _resume(network: R2D2Network, optimiser: torch.optim.Optimizer, task: WorkerTask) -> PartialEpoch:
    """Restores weights and optimiser from Ray Train's last checkpoint, or the trial's, if Ray knows none.

    Returns:
        The epoch to go on with, and what is done of it; the first one if there is no checkpoint.

    Raises:
        ValueError: if the checkpoint is damaged.
    """
    handed = ray.train.get_checkpoint()
    place = last_checkpoint(task.trial) if handed is None else checkpoint_place(handed)
    if place is None:
        return PartialEpoch(1)
    with fetched(place, task.timeout) as folder:
        checkpoint, partial = load_checkpoint(folder), PartialEpoch.load(folder)
    network.load_state_dict(checkpoint.network.state_dict())
    restore_optimiser(optimiser, checkpoint)
    partial = partial or PartialEpoch(checkpoint.epoch + 1)
    if (partial.epoch, partial.steps) != (checkpoint.epoch + 1, checkpoint.step):
        raise ValueError(
            f"the checkpoint {place} is damaged: its weights are of step {checkpoint.step}, its "
            f"reports of step {partial.steps}"
        )
    return partial

"""Runs one trial: Ray Train trains, the evaluator scores each checkpoint, and both are reported to Tune.

Only this file knows both training and the evaluator. Training does not wait for scores: Ray Train runs the
validation function beside it, one task per checkpoint, and repeats the unfinished ones after a restart.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import ray
import ray.train
from ray import tune
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from r2d2.config import TrainConfig
from r2d2.storage.location import folder_of
from r2d2.storage.scratch import scratch_folder
from r2d2.storage.store import Store
from runner.record.attempt import SupersededError
from runner.record.checkpoints import upload_checkpoint
from runner.record.history import History, put_json
from runner.record.incidents import ASKED_TO_STOP, DAMAGED, FAILED, record_incident
from runner.record.layout import HISTORY, TRAIN_RUN, TRIAL_CONFIG, checkpoint_name
from runner.trial.entry import train_worker
from runner.trial.placement_group_cleanup import free_reservations, leave_reservations
from runner.trial.preemption import this_node
from runner.trial.recovery import NodeLeaves, train_to_the_end
from runner.trial.scoring import TrialContext, score_checkpoint, score_missing, score_place
from runner.trial.storage import (
    drop_damaged_snapshot,
    last_checkpoint,
    remove_forgotten,
    storage_arguments,
)
from runner.trial.task import WorkerTask
from search_spaces.sweep import Trial

CONFIG_KEY = "trial"

# Ray Train asks its workers whether they are there, and counts one as lost that does not answer for so long.
_SILENCE = "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"


def run_trial(config: dict[str, Any], context: TrialContext) -> dict[str, Any]:
    """Trains one configuration as Tune's trainable, and reports every event of its history to Tune.

    Events of an earlier attempt are reported again first, so that schedulers and searchers know them; a
    trial that had ended does nothing more. If training or scoring fails, the reason is written beside the
    history, where the callback reads it, and nothing is raised: an exception here means to Tune that the
    driver died, and Tune starts it again.

    Raises:
        NodeLeaves: if this process's node is taken away.
    """
    trial = Trial(TrainConfig.from_dict(config[CONFIG_KEY]))
    store = context.trial(f"{context.trials_folder}/{trial.key}")
    history = History(store.below(HISTORY), context.attempt)
    if context.attempt is not None and context.attempt.is_asked_to_stop():
        return {FAILED: True}
    try:
        history.mark_failed(None)
        if store.read(TRIAL_CONFIG) is None:
            put_json(store, TRIAL_CONFIG, trial.config.to_dict())
        _run(trial.config, store, history, context)
    except NodeLeaves:
        raise
    except (SupersededError, _NotedError):
        return {FAILED: True}
    except Exception as error:
        _note_end(history, " ".join(str(error).split()))
        return {FAILED: True}
    return final_score(history, context.metric)


class _NotedError(Exception):
    """Says that a training ended before its end and that the reason is written down."""


def _note_end(history: History, reason: str) -> None:
    """Writes down why a trial did not reach its end, unless a later attempt has taken over."""
    attempt = history.attempt
    with contextlib.suppress(SupersededError):
        if attempt is not None and attempt.is_asked_to_stop():
            # The sweep's driver waits for this word; what ends because it was asked to has not failed.
            record_incident(history, ASKED_TO_STOP, reason)
        else:
            history.mark_failed(reason)


def final_score(history: History, metric: str) -> dict[str, Any]:
    """Returns the last score by the deciding metric: a searcher learns from a trial's last report."""
    scores = [r for r in history.records() if metric in r.metrics]
    return {"epoch": scores[-1].epoch, metric: scores[-1].metrics[metric]} if scores else {}


def _run(config: TrainConfig, store: Store, history: History, context: TrialContext) -> None:
    training = _Training(partial(_train if config.epochs else _score_start, config, store, context))
    if history.stopped_after is None and not history.is_complete(config.epochs, context.roles):
        training.start()
    for record in history.follow(training.ended):
        tune.report({"epoch": record.epoch, "kind": record.kind, **record.metrics})
    training.raise_error()
    errors = [r for r in history.records() if r.error is not None]
    if errors:
        raise RuntimeError(f"epoch {errors[0].epoch} has no score on {errors[0].kind}: {errors[0].error}")


class _Training:
    """Runs the trainer in a thread, so that the trial can report while it trains."""

    def __init__(self, target: partial[None]) -> None:
        self._target = target
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        # A daemon: when Tune stops the trial, nothing waits for the trainer to end.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._target()
        except BaseException as error:
            self._error = error

    def ended(self) -> bool:
        return self._thread is None or not self._thread.is_alive()

    def raise_error(self) -> None:
        if self._error is not None:
            raise self._error


def _train(config: TrainConfig, store: Store, context: TrialContext) -> None:
    """Trains to the end, whatever happens to its workers, and has every checkpoint scored."""
    history = History(store.below(HISTORY), context.attempt)
    resilience = context.resilience
    if resilience.silence:
        os.environ[_SILENCE] = str(resilience.silence)

    def fit() -> None:
        free_reservations(store, context.attempt)
        _mend_snapshot(store, history)
        _trainer(config, store, context).fit()

    try:
        train_to_the_end(fit, history, resilience.max_restarts)
        remove_forgotten(store)
    except RuntimeError as error:
        # From this thread: a driver that was asked to stop waits for this word and takes no report before.
        _note_end(history, " ".join(str(error).split()))
        raise _NotedError from error
    finally:
        leave_reservations(store, context.attempt)
    # What Ray Train gave up scoring in an earlier attempt is tried again.
    score_missing(history, context)


def _mend_snapshot(store: Store, history: History) -> None:
    """Lets a trial go on from its last checkpoint although Ray Train's list of them is damaged."""
    if drop_damaged_snapshot(store):
        last = last_checkpoint(store)
        where = "its start" if last is None else last.rpartition("/")[2]
        text = f"Ray Train's list of checkpoints was damaged; the trial goes on from {where}"
        record_incident(history, DAMAGED, text)


def _score_start(config: TrainConfig, store: Store, context: TrialContext) -> None:
    """Scores the starting network as it is: a trial of 0 epochs."""
    from r2d2.checkpoint import save_checkpoint
    from r2d2.start import starting_network

    name, network = checkpoint_name(0), starting_network(config, context.inits[config.init])
    kept = store.below(f"{TRAIN_RUN}/{name}")
    with scratch_folder() as scratch:
        local = scratch / name if kept.is_remote else folder_of(kept)
        save_checkpoint(local, network, config, epoch=0)
        if kept.is_remote:
            upload_checkpoint(local, kept)
    score_place(kept.place, 0, context, store.place)


def _kind_of_trainer(num_workers: int, gpus: float) -> Callable[..., DataParallelTrainer]:
    """Returns TorchTrainer, which joins the workers in a process group; a lone worker needs no group.

    Without the group, Ray Train's controller need not import torch, which takes seconds. NCCL, which joins
    workers with a GPU each, refuses two on one GPU: those with a fraction are joined by Gloo.
    """
    if num_workers == 1:
        return DataParallelTrainer
    from ray.train.torch import TorchConfig, TorchTrainer

    backend = "gloo" if 0 < gpus < 1 else None
    # Ray's types are those of its former Train.
    return partial(TorchTrainer, torch_config=TorchConfig(backend=backend))  # type: ignore[return-value]


def _trainer(config: TrainConfig, store: Store, context: TrialContext) -> DataParallelTrainer:
    resilience = context.resilience
    task = WorkerTask(
        config=config.to_dict(),
        init=context.inits[config.init],
        trial_folder=store.place,
        started=time.time(),
        objects=None if context.objects is None else asdict(context.objects),
        checkpoint_steps=resilience.checkpoint_steps,
        silence=resilience.silence,
        threads=context.worker.threads_of(config),
        driver_node=this_node(),
        attempt=None if context.attempt is None else asdict(context.attempt),
        gpus=context.worker.gpus,
    )
    fewest, most = resilience.fewest_workers(config.num_workers), config.num_workers
    workers: Any = most if fewest == most else (fewest, most)
    return _kind_of_trainer(most, context.worker.gpus)(
        train_worker,
        train_loop_config=task.to_dict(),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers,
            use_gpu=context.worker.gpus > 0,
            resources_per_worker=context.worker.of(config),
            placement_strategy="PACK",
        ),
        run_config=ray.train.RunConfig(
            name=TRAIN_RUN,
            **storage_arguments(store),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=context.keep,
                checkpoint_score_attribute=context.metric,
                checkpoint_score_order=context.mode,
            ),
        ),
        validation_config=ray.train.ValidationConfig(
            fn=partial(score_checkpoint, context=context, folder=store.place),
            ray_remote_kwargs={"num_cpus": 0, "max_retries": 3, "label_selector": dict(context.labels)},
        ),
    )

"""Trials that train nothing: they write histories, at a given pace, and report them as real ones do."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from r2d2.config import TrainConfig
from runner.record.history import TRAIN, History, Record, write_json
from runner.record.layout import HISTORY
from search_spaces.sweep import Trial

if TYPE_CHECKING:
    from evaluation.evaluation import Evaluation
    from runner.sweep.tuner import Trainable
    from runner.trial.scoring import TrialContext


def stub_trial(seconds: float, digest: str) -> Trainable:
    """What Tune runs for each trial in place of a training.

    Args:
        seconds: of one trial.
        digest: of the benchmark on which its scores pretend to be.
    """

    def run(config: dict[str, Any], context: TrialContext) -> dict[str, Any]:
        from ray import tune

        trial = Trial(TrainConfig.from_dict(config["trial"]))
        began = time.time()
        folder = Path(context.trials_folder) / trial.key
        write_json(folder / "config.json", trial.config.to_dict())
        history = History(folder / HISTORY)
        for epoch in range(1, trial.config.epochs + 1):
            time.sleep(max(0.0, began + seconds * epoch / trial.config.epochs - time.time()))
            for record in events(trial, epoch, history.folder, digest):
                history.write(record)
                tune.report({"epoch": record.epoch, "kind": record.kind, **record.metrics})
        return {"epoch": trial.config.epochs, context.metric: record.metrics[context.metric]}

    return run


def events(trial: Trial, epoch: int, history: Path, digest: str) -> tuple[Record, Record]:
    """What one epoch of a trial leaves: a training and a score, which follow from seed and epoch alone."""
    share = figure(trial, epoch)
    losses = {f"train/loss_{term}": 1 - share / n for n, term in enumerate(_TERMS, start=1)}
    checkpoint = str(history.parent / f"checkpoint_{epoch:03d}")
    evaluation, name = _evaluation(trial, share, digest), f"table_{epoch:03d}.validation.json"
    write_json(history / name, evaluation.to_json())
    scalars = {f"validation/{key}": value for key, value in evaluation.scalars().items()}
    return (
        Record(epoch, TRAIN, {**losses, "train/pairs_per_second": 10.0}, checkpoint),
        Record(epoch, "validation", scalars, checkpoint, evaluation=name),
    )


def figure(trial: Trial, epoch: int) -> float:
    """A number in (0, 0.5) that differs from trial to trial and grows with the epoch."""
    return (epoch + (trial.config.seed % 97) / 97) / (2 * trial.config.epochs + 2)


_TERMS = ("total", "reliability", "similarity", "peakiness")


def _evaluation(trial: Trial, share: float, digest: str) -> Evaluation:
    from evaluation.evaluation import Evaluation, PairScore, Timings
    from evaluation.protocols import PROTOCOLS
    from r2d2.collapse import CollapseSigns

    curve = tuple(share + threshold / 30 for threshold in range(1, 16))
    pairs = (
        PairScore("i_one", "illumination", 2, 100, 90, 50, curve),
        PairScore("v_two", "viewpoint", 3, 100, 80, 40, curve),
    )
    return Evaluation(
        model="stub",
        model_digest=hashlib.sha256(trial.key.encode()).hexdigest(),
        protocol=PROTOCOLS["validation"],
        benchmark="held-out",
        benchmark_digest=digest,
        pairs=pairs,
        timings=Timings(1.0, 0.5),
        collapse=CollapseSigns(0.1, 0.5),
        examples=(),
    )

"""Finds the stored training that a user names, whatever it is called by."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from r2d2.unknown import unknown
from runner.compare.rows import BESIDE
from runner.compare.sources import MODEL, RUN, is_sweep
from runner.compare.stored import labels_of, latest
from runner.record.command import StartedSweep
from runner.record.history import History
from runner.record.provenance import Provenance
from runner.record.sweep import StoredSweep
from runner.settings import Settings
from search_spaces.sweep import Trial

_RUN_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Target:
    """A Target is a stored training whose numbers are to come out again.

    Attributes:
        sweep, trial: where it is stored.
        epoch: whose figures decide.
        photos, hpatches, released: where its inputs lie now; None: where they were, or it had none.
    """

    sweep: StoredSweep
    trial: Trial
    epoch: int
    photos: str | None = None
    hpatches: str | None = None
    released: str | None = None

    def __str__(self) -> str:
        return f"{self.trial.variant}, seed {self.trial.config.seed}, of the sweep '{self.sweep.name}'"

    @property
    def metric(self) -> str:
        """Returns the name of the figure that decides."""
        return self.sweep.definition.metric

    @property
    def history(self) -> History:
        """Opens the events of the training."""
        return self.sweep.history(self.trial)

    def provenances(self) -> list[Provenance | None]:
        """Reads what the attempts that trained or scored it computed with; equal ones once, the last last.

        None: an attempt that did not record it.
        """
        attempts = sorted({r.attempt or 0 for r in self.history.records()})
        records = [Provenance.load(self.sweep.store, attempt) if attempt else None for attempt in attempts]
        return list({_state(one): one for one in records}.values())


def find_target(text: str, settings: Settings, seed: int | None = None, photos: str | None = None) -> Target:
    """Finds a training.

    Args:
        text: `runs:/ID` or the id alone, `models:/NAME@ALIAS`, `models:/NAME/VERSION`, or `SWEEP:VARIANT`.
        settings: where sweeps and the MLflow store are; HPatches and the released network, if they moved.
        seed: of a variant; None: the smallest.
        photos: place of its photographs, if they moved.

    Raises:
        ValueError: if it names nothing, several trainings, or one without a score.
    """
    if text.startswith((MODEL, RUN)) or _RUN_ID.fullmatch(text):
        if seed is not None:
            raise ValueError(f"--seed chooses one of SWEEP:VARIANT; '{text}' is one training")
        sweep, trial, epoch = _logged(text, settings)
    else:
        name, _, variant = text.partition(":")
        if not re.fullmatch(r"[\w-]+", name):
            raise ValueError(f"'{text}' names no run; write {RUN}ID, {MODEL}NAME@ALIAS or SWEEP:VARIANT")
        sweep = StoredSweep(settings.sweep(name))
        trial, epoch = _of_variant(sweep, variant, seed), None
    if epoch is None:
        epoch = latest(sweep.history(trial).records())
    started = StartedSweep.load(sweep.store)
    hpatches, released = (started.hpatches, started.released) if started is not None else (None, None)
    target = Target(sweep, trial, epoch, photos, settings.hpatches or hpatches, settings.released or released)
    if deciding_value(target, target.history) is None:
        raise ValueError(f"{target} has no {target.metric} at epoch {epoch} to compare")
    return target


def _state(record: Provenance | None) -> object:
    """What must be the same for two parts of a training to be one; the branch's name decides nothing."""
    return record and (replace(record.code, branch=""), tuple(sorted(record.packages.items())))


def deciding_value(target: Target, history: History) -> float | None:
    """Returns the deciding figure in a history of the same training; None if it is not there."""
    record = history.find(target.epoch, target.metric.partition("/")[0])
    return None if record is None else record.metrics.get(target.metric)


def _logged(text: str, settings: Settings) -> tuple[StoredSweep, Trial, int | None]:
    """The sweep and trial of a run in MLflow, or of a model version with its epoch."""
    from runner.registry.package import registered_version
    from runner.tracking.experiments import Tracker

    tracker, epoch, run_id = Tracker.of(settings), None, text.removeprefix(RUN)
    if text.startswith(MODEL):
        version = registered_version(text, tracker)
        if "epoch" not in version.tags or not version.run_id:
            raise ValueError(f"{text} was not promoted by r2d2 promote: it does not say its run and epoch")
        epoch, run_id = int(version.tags["epoch"]), version.run_id
    run = tracker.get_run(run_id)
    name = run.tags.get("sweep", "")
    if not is_sweep(name, settings):
        raise ValueError(f"{text} is of the sweep '{name}', which is not in {settings.sweeps.place}")
    sweep = StoredSweep(settings.sweep(name))
    trials = {trial.key: trial for trial in sweep.trials()}
    if run.key not in trials:
        raise ValueError(f"{text} is '{run.name}' of the sweep '{name}', which is no trial")
    return sweep, trials[run.key], epoch


def _of_variant(sweep: StoredSweep, variant: str, seed: int | None) -> Trial:
    _ = sweep.definition  # an unknown sweep is refused with the known ones
    labels = labels_of(sweep)
    trials = sweep.trials()
    found = [trial for trial in trials if variant in _names(trial, labels[trial.key])]
    rows = sorted({labels[trial.key] for trial in found})
    if not rows:
        known = dict.fromkeys(labels.values())
        raise ValueError(unknown("variant", variant, known, where=f" of the sweep '{sweep.name}'"))
    if len(rows) > 1:
        raise ValueError(f"'{variant}' may be any of these variants: {'; '.join(rows)}")
    seeds = {trial.config.seed: trial for trial in found}
    if seed is not None and seed not in seeds:
        raise ValueError(f"'{variant}' of the sweep '{sweep.name}' has the seeds {sorted(seeds)}, not {seed}")
    return seeds[min(seeds) if seed is None else seed]


def _names(trial: Trial, label: str) -> set[str]:
    loss = trial.config.loss
    own, _, other = label.partition(BESIDE)
    short = {f"{loss.reliability}+{loss.similarity}"} if trial.config.epochs else set()
    return ({label, own, other, trial.variant, trial.key} | short) - {""}


def scores_by_variant(target: Target) -> dict[str, list[float]]:
    """Returns the deciding figure of each seed at the target's epoch, by variant, the target's own first."""
    sweep, labels = target.sweep, labels_of(target.sweep)
    found: dict[str, list[float]] = {labels[target.trial.key]: []}
    for trial in sweep.trials():
        score = deciding_value(target, sweep.history(trial))
        if score is not None and trial.config.epochs == target.trial.config.epochs:
            found.setdefault(labels[trial.key], []).append(score)
    return found

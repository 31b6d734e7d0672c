"""StoredSweep: what a sweep's folder holds, finished or not. It needs no Ray, no MLflow, no photographs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from evaluation.evaluation import Evaluation
from evaluation.variants import Variant
from r2d2.collapse import collapse_warnings
from r2d2.config import SCRATCH, TrainConfig
from runner.definition import SweepDefinition
from runner.history import HISTORY, History, final_scores, read_evaluation
from runner.table import Outcome, Row, latest, rows
from search_spaces.sweep import Trial

TRIALS = "trials"
# What a variant's name or the columns of the table say already.
IN_VARIANT = ("seed", "loss.reliability", "loss.similarity", "init")


@dataclass(frozen=True)
class StoredSweep:
    """The trials of one sweep on disk."""

    folder: Path

    @property
    def definition(self) -> SweepDefinition:
        """What the sweep was started with.

        Raises:
            ValueError: if there is no such sweep; names those there are.
        """
        definition = SweepDefinition.load(self.folder)
        if definition is None:
            known = sorted(p.parent.name for p in self.folder.parent.glob("*/sweep.json"))
            raise ValueError(
                f"there is no sweep '{self.folder.name}' in {self.folder.parent}; "
                f"known: {', '.join(known) or 'none'}"
            )
        return definition

    def trials(self) -> list[Trial]:
        """The trials that were started, the oldest first."""
        configs = (self.folder / TRIALS).glob("*/config.json")
        return [
            Trial(TrainConfig.from_dict(json.loads(path.read_text())))
            for path in sorted(configs, key=lambda path: path.stat().st_mtime)
        ]

    def trial_folder(self, trial: Trial) -> Path:
        """Holds the trial's configuration, history and checkpoints."""
        return self.folder / TRIALS / trial.key

    def history(self, trial: Trial) -> History:
        """What the trial has lived through."""
        return History(self.trial_folder(trial) / HISTORY)

    def labels(self) -> dict[str, str]:
        """The row of every trial, by its key: its variant, and what else the sweep varies but the seed."""
        trials = self.trials()
        flat = [trial.config.flat() for trial in trials if trial.config.epochs]
        names = [name for name in TrainConfig().flat() if name not in IN_VARIANT]
        varied = [name for name in names if len({config[name] for config in flat}) > 1]
        labels = {}
        for trial in trials:
            # A starting network differs by its architecture only.
            shown = [name for name in varied if trial.config.epochs or name.startswith("network.")]
            settings = [f"{name.rpartition('.')[2]}={_short(trial.config.flat()[name])}" for name in shown]
            labels[trial.key] = ", ".join([trial.variant, *settings])
        return labels

    def trained_labels(self) -> list[str]:
        """The rows that were trained, in the order of the sweep's definition, each once."""
        labels, order = self.labels(), list(self.definition.trials)
        trained = [trial.key for trial in self.trials() if trial.config.epochs]
        trained.sort(key=lambda key: order.index(key) if key in order else len(order))
        return list(dict.fromkeys(labels[key] for key in trained))

    def variants(self, role: str) -> list[Variant]:
        """The last evaluations of every row on one benchmark, for a comparison with intervals."""
        labels = self.labels()
        scored: dict[str, list[tuple[Evaluation, int | None]]] = {}
        for trial in self.trials():
            history = self.history(trial)
            for record in final_scores(history.records()):
                if record.kind == role:
                    # The released network is one network, whatever seed its row carries.
                    seed = trial.config.seed if trial.config.init == SCRATCH or trial.config.epochs else None
                    scored.setdefault(labels[trial.key], []).append((read_evaluation(history, record), seed))
        return [
            Variant(name, tuple(e for e, _ in found), _seeds([seed for _, seed in found]))
            for name, found in scored.items()
        ]

    def table(self, metric: str, mode: str) -> list[Row]:
        """One row per variant, sorted by the metric."""
        outcomes = []
        labels = self.labels()
        for trial in self.trials():
            epoch, metrics = latest(self.history(trial).records())
            # A network that was never trained is flat by nature.
            warnings = tuple(collapse_warnings(metrics)) if epoch else ()
            label, seed = labels[trial.key], trial.config.seed
            outcomes.append(Outcome(trial.key, label, seed, epoch, metrics, warnings))
        return rows(outcomes, metric, mode)


def _seeds(seeds: list[int | None]) -> tuple[int, ...] | None:
    known = tuple(seed for seed in seeds if seed is not None)
    return known if len(known) == len(seeds) else None


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

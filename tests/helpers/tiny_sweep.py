"""Sweeps of networks so small that a trial's processes take longer to start than to train."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from runner.settings import Settings
from runner.sweep.plan import SweepOptions, SweepPlan, plan_sweep
from runner.sweep.run import SweepResult, run_sweep
from runner.tracking.experiments import Tracker

# What differs from one training to another that is the same.
SPEED = ("train/pairs_per_second", "worker/")

TINY = """
from functools import partial
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from search_spaces.sweep import Sweep

TINY = {
    "network": {"channels": 1, "dim": 16},
    "data": {"crop_size": 64, "held_out": 1, "pairs_per_epoch": 24, "max_shorter_side": 320},
    "optimiser": {"learning_rate": 3e-3},
    "pairs_per_worker": 4,
    "epochs": 2,
}
"""


def write_sweep(folder: Path, text: str, name: str = "tiny") -> Path:
    """Writes a sweep file that may use `TINY`; returns its path."""
    file = folder / f"{name}.py"
    file.write_text(f'"""Does it work?"""\n{TINY}{text}')
    return file


def settings_in(home: Path) -> Settings:
    return Settings.from_environment({"R2D2_HOME": str(home)})


def run(file: Path, home: Path, options: SweepOptions | None = None) -> tuple[SweepPlan, SweepResult]:
    """Runs a sweep with this process as its driver."""
    settings = settings_in(home)
    plan = plan_sweep(str(file), settings, options or SweepOptions())
    return plan, run_sweep(plan, settings, Console(quiet=True))


def story(plan: SweepPlan) -> dict[str, list]:
    """Every event of every trial, but for how fast it was and where its files are."""
    return {
        trial.key: [
            (r.epoch, r.kind, {k: v for k, v in r.metrics.items() if not k.startswith(SPEED)})
            for r in plan.stored.history(trial).records()
        ]
        for trial in plan.stored.trials()
    }


def runs_of(plan: SweepPlan, home: Path):
    return Tracker.of(settings_in(home)).list_runs(plan.definition.name)


def steps_of(home: Path, run_id: str, metric: str) -> list[int]:
    """Every logged step of a metric, duplicates included."""
    tracker = Tracker.of(settings_in(home))
    return sorted(m.step for m in tracker.client.get_metric_history(run_id, metric))

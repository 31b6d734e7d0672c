"""A sweep of small real trainings, run in this process on a cluster of its own, for benchmarks."""

from __future__ import annotations

import os
from pathlib import Path

from runner.settings import Settings
from runner.sweep.plan import SweepOptions, SweepPlan, plan_sweep
from runner.sweep.run import run_sweep
from runner.terminal.console import make_console


def run_small_sweep(folder: Path, name: str, text: str, options: SweepOptions | None = None) -> SweepPlan:
    """Runs the sweep that a text defines to its end; none of its trials may fail.

    Args:
        folder: for its file, its home and MLflow's store.
        name: of the sweep.
        text: of its file, see `search_spaces`.
        options: as of `r2d2 sweep`; None: its defaults.
    """
    file = folder / f"{name}.py"
    file.write_text(text)
    forked = os.environ.get("R2D2_FORK_SERVER", "")
    settings = Settings.from_environment({"R2D2_HOME": str(folder / "home"), "R2D2_FORK_SERVER": forked})
    plan = plan_sweep(str(file), settings, options or SweepOptions())
    result = run_sweep(plan, settings, make_console())
    assert not result.failed, result.failed
    return plan

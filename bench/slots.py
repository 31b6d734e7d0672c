"""How much of a sweep's slot time is training: `python -m bench.slots --trials 8 --pairs 600`.

Small real trainings, one worker each, on every CPU of this machine. The rest is starting processes, scoring
and waiting. Status 1 if less than 90 % of the slot time lies inside training steps.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.small_sweep import run_small_sweep
from runner.record.history import TRAIN
from runner.terminal.console import make_console
from runner.terminal.fitted_table import FittedTable

BUSY_AT_LEAST = 0.90
SWEEP = '''"""How much of its slots' time does a sweep train?"""
from ray import tune
from search_spaces.sweep import Sweep
sweep = Sweep(
    samples=True,
    space={{
        "network": {{"channels": 1, "dim": 16}},
        "data": {{"crop_size": 64, "held_out": 2, "pairs_per_epoch": {pairs}, "max_shorter_side": 320}},
        "pairs_per_worker": 4,
        "epochs": {epochs},
        "seed": tune.grid_search(list(range({trials}))),
    }},
    baselines=False,
)
'''


def main() -> int:
    """Runs the sweep and prints the figures; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.slots")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=600, help="of an epoch")
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="slots") as folder:
        figures = measure(Path(folder), arguments)
    table = FittedTable(["figure", "value"], title=" ".join(["python -m bench.slots", *sys.argv[1:]]))
    for name, value in figures.items():
        table.add_row(name, f"{value:.3f}")
    make_console().print(table)
    return 0 if figures["share of slot time inside steps"] >= BUSY_AT_LEAST else 1


def measure(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Runs the sweep in this process."""
    plan = run_small_sweep(folder, "slots", SWEEP.format(**vars(arguments)))
    spans = [_span(plan, trial, arguments) for trial in plan.trials]
    slots = os.cpu_count() or 1
    firsts = sorted(span["first"] for span in spans)
    lasts = sorted(span["trained"] for span in spans)
    begin, end = min(span["begun"] for span in spans), max(span["trained"] for span in spans)
    return {
        "trials": len(spans),
        "slots": slots,
        "seconds inside steps of a trial": sum(span["steps"] for span in spans) / len(spans),
        "seconds to the first steps": max(firsts[:slots]) - begin,
        "seconds from the last step of one trial to the first of the next": between(firsts, lasts, slots),
        "share of slot time inside steps": sum(span["steps"] for span in spans) / (slots * (end - begin)),
    }


def between(firsts: list[float], lasts: list[float], slots: int) -> float:
    """How long a slot is without a training step between two trials, mean; NaN if each slot has one trial."""
    gaps = [first - last for first, last in zip(firsts[slots:], lasts, strict=False)]
    return sum(gaps) / len(gaps) if gaps else math.nan


def _span(plan: Any, trial: Any, arguments: argparse.Namespace) -> dict[str, float]:
    """When a trial began, took its first step and was trained, seconds since 1970; how long it trained."""
    history = plan.stored.history(trial)
    epochs = [record for record in history.records() if record.kind == TRAIN]
    folder = plan.stored.trial_folder(trial)
    last = max(path.stat().st_mtime for path in folder.glob(f"history/*.{TRAIN}.json"))
    seconds = [arguments.pairs / record.metrics["train/pairs_per_second"] for record in epochs]
    first = (folder / "history" / epochs[0].name).stat().st_mtime
    return {
        "begun": (folder / "config.json").stat().st_mtime,
        "first": first - seconds[0],
        "trained": last,
        "steps": sum(seconds),
    }


if __name__ == "__main__":
    sys.exit(main())

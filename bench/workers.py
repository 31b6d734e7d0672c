"""Two data-parallel workers of one thread against one worker of two threads: `python -m bench.workers`.

Trainings with as many pairs a step, by turns. Status 1 if two workers are slower than 0.9 of one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from bench.small_sweep import run_small_sweep
from runner.record.history import TRAIN
from runner.sweep.plan import SweepOptions
from runner.terminal.console import make_console
from runner.terminal.fitted_table import FittedTable

SPEED_AT_LEAST = 0.90
PAIRS_PER_STEP = 8
SWEEP = '''"""How fast do {workers} workers train?"""
from search_spaces.sweep import Sweep
sweep = Sweep(
    samples=True,
    space={{
        "network": {{"channels": {channels}, "dim": 32}},
        "data": {{"crop_size": 96, "held_out": 2, "pairs_per_epoch": {pairs}}},
        "pairs_per_worker": {each},
        "num_workers": {workers},
        "epochs": {epochs},
    }},
    baselines=False,
)
'''


def main() -> int:
    """Runs the trainings and prints their speeds; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.workers")
    parser.add_argument("--pairs", type=int, default=400, help="of an epoch")
    parser.add_argument("--epochs", type=int, default=3, help="of which the first does not count")
    parser.add_argument("--channels", type=int, default=2, help="of the network")
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    speeds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory(prefix="workers") as folder:
        for number in range(arguments.rounds):
            for workers, found in speeds.items():
                found += speed(Path(folder), f"round{number}_workers{workers}", workers, arguments)
    one, two = (statistics.median(found) for found in speeds.values())
    table = FittedTable(["figure", "value"], title=" ".join(["python -m bench.workers", *sys.argv[1:]]))
    table.add_row("one worker with two threads, pairs/s", f"{one:.2f}")
    table.add_row("two workers with one thread each, pairs/s", f"{two:.2f}")
    table.add_row("two over one", f"{two / one:.3f}")
    make_console().print(table)
    return 0 if two / one >= SPEED_AT_LEAST else 1


def speed(folder: Path, name: str, workers: int, arguments: argparse.Namespace) -> list[float]:
    """Pairs per second of all workers together, of each epoch but the first."""
    values = vars(arguments) | {"workers": workers, "each": PAIRS_PER_STEP // workers}
    plan = run_small_sweep(folder, name, SWEEP.format(**values), SweepOptions(cpus_per_worker=2 // workers))
    [trial] = plan.trials
    records = [record for record in plan.stored.history(trial).records() if record.kind == TRAIN]
    return [record.metrics["train/pairs_per_second"] for record in records[1:]]


if __name__ == "__main__":
    sys.exit(main())

"""`make bench`: measures, prints the table and writes bench/results.json. Five minutes on two cores.

`python -m bench --photos FOLDER` makes pairs of the photographs of 640x480 in a folder. The machine should do
nothing else meanwhile. Status 1 if a ratio is above its limit.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import torch
from rich.table import Table

from bench.extraction import extraction
from bench.loader import bench_photos, loader
from bench.pool import pool
from bench.scoring import scoring
from bench.step import has_bfloat16, step
from bench.timing import Ratio
from r2d2.keypoints import ExtractionSettings, arithmetic
from runner.console import make_console

RESULTS = Path(__file__).with_name("results.json")
THREADS = 2


def main() -> int:
    """Runs everything; the exit status."""
    arguments = argparse.ArgumentParser(prog="python -m bench")
    arguments.add_argument("--photos", help="folder with JPEGs of 640x480; the sample photographs by default")
    folder = arguments.parse_args().photos
    torch.set_num_threads(THREADS)
    ratios = [extraction("quad", rounds=2), extraction("fast", rounds=3), scoring(rounds=20), pool(rounds=2)]
    with bench_photos(folder) as photos:
        ratios += loader(photos, rounds=8)
    precisions = ("float32", "bfloat16") if has_bfloat16() else ("float32",)
    ratios += [step(name, precision, rounds=2) for name in ("quad", "fast") for precision in precisions]
    RESULTS.write_text(json.dumps([dataclasses.asdict(ratio) for ratio in ratios], indent=1) + "\n")
    console = make_console()
    console.print(_table(ratios))
    if "bfloat16" not in precisions:
        console.print("training step in bfloat16: left out, this processor has no arithmetic for it")
    used = arithmetic(ExtractionSettings(), torch.device("cpu"))
    console.print(f"{THREADS} threads; extraction in {used}; written to {RESULTS}")
    return int(any(ratio.ratio > ratio.limit for ratio in ratios))


def _table(ratios: list[Ratio]) -> Table:
    table = Table("name", "ratio", "limit", "ok?")
    for ratio in ratios:
        good = "yes" if ratio.ratio <= ratio.limit else "no"
        table.add_row(ratio.name, f"{ratio.ratio:.2f}", f"{ratio.limit:.2f}", good)
    return table


if __name__ == "__main__":
    sys.exit(main())

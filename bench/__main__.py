"""Runs `make bench`: measures, prints each ratio as soon as it is known, writes bench/results.json.

The machine should do nothing else meanwhile. `python -m bench loader step` measures only these parts;
`--photos FOLDER` makes pairs of the photographs of 640x480 in a folder. Status 1: a ratio is above its limit.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch

from bench.extraction import extraction
from bench.loader import bench_photos, loader
from bench.scoring import pool, scoring
from bench.step import has_bfloat16, step
from bench.timing import Ratio
from r2d2.extraction.keypoints import arithmetic
from r2d2.extraction.settings import ExtractionSettings
from r2d2.processor.allocator import keep_memory
from r2d2.unknown import unknown
from runner.terminal.console import make_console

RESULTS = Path(__file__).with_name("results.json")
THREADS = 2

NETWORKS = ("quad", "fast")
Part = Callable[[str | None], Iterator[Ratio]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what the command line asks for; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--photos", help="folder with JPEGs of 640x480; the sample photographs by default")
    asked = parser.parse_args(arguments)
    strangers = [name for name in asked.parts if name not in PARTS]
    if strangers:
        parser.error(unknown("part", strangers[0], PARTS))
    torch.set_num_threads(THREADS)
    keep_memory()
    console = make_console()
    used = arithmetic(ExtractionSettings(), torch.device("cpu"))
    console.print(f"{THREADS} threads; extraction in {used}; ratio (limit)")
    ratios: list[Ratio] = []
    for name in asked.parts or PARTS:
        for ratio in PARTS[name](asked.photos):
            ratios.append(ratio)
            colour = "green" if ratio.is_good else "red"
            limit = "      " if ratio.limit is None else f"({ratio.limit:.2f})"
            console.print(f"[{colour}]{ratio.ratio:5.2f}[/] {limit}  {ratio.name}", highlight=False)
            # After each one: what was measured survives an interruption.
            RESULTS.write_text(json.dumps([dataclasses.asdict(r) for r in ratios], indent=1) + "\n")
    if not has_bfloat16():
        console.print("training step in bfloat16: left out, this processor has no arithmetic for it")
    console.print(f"written to {RESULTS}")
    return int(not all(ratio.is_good for ratio in ratios))


def _extraction(_: str | None) -> Iterator[Ratio]:
    yield from extraction("quad", rounds=2, threads=THREADS)
    yield from extraction("fast", rounds=3, threads=THREADS)


def _scoring(_: str | None) -> Iterator[Ratio]:
    yield scoring(rounds=20)


def _pool(_: str | None) -> Iterator[Ratio]:
    yield pool(rounds=2)


def _loader(folder: str | None) -> Iterator[Ratio]:
    with bench_photos(folder) as photos:
        yield from loader(photos, rounds=8)


def _step(_: str | None) -> Iterator[Ratio]:
    precisions = ("float32", "bfloat16") if has_bfloat16() else ("float32",)
    for name in NETWORKS:
        for precision in precisions:
            yield step(name, precision, rounds=2)


PARTS: Mapping[str, Part] = {
    "extraction": _extraction,
    "scoring": _scoring,
    "pool": _pool,
    "loader": _loader,
    "step": _step,
}


if __name__ == "__main__":
    sys.exit(main())

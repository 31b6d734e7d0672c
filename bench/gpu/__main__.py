"""Measures one GPU, a JSON line for each figure; `bench/gpu.sh` runs it.

Status 0: every check ended well or was left out for want of time; 1: one did not; 2: it could not begin.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import TextIO

import torch

from bench.gpu.plan import CHECKS, Check
from bench.gpu.run import PATIENCE, run
from bench.gpu.setup import SMALL, Figure, Scale, Setup
from r2d2.data.photos import SAMPLES
from r2d2.unknown import unknown

SECONDS_OF_A_CALL = 360.0
# What each check is expected to take on a CPU at small sizes; a busy one may take many times as long.
SECONDS_ON_CPU, PATIENCE_ON_CPU = 40.0, 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures what the command line asks for; the exit status."""
    asked = _parser().parse_args(arguments)
    checks = _chosen(asked.call, asked.only)
    if not asked.cpu and not torch.cuda.is_available():
        sys.stderr.write("There is no GPU that PyTorch can use here. `--cpu` tries the checks without one.\n")
        return 2
    # Ends the process of the checks too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sequences = None if asked.sequences is None else Path(asked.sequences).absolute()
    photos = asked.photos if asked.photos == SAMPLES else str(Path(asked.photos).absolute())
    if asked.cpu:
        # So that nothing of it takes a GPU that is there.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        # Threads would wait for each other where a machine does other things.
        os.environ["OMP_NUM_THREADS"] = "1"
        checks = [replace(check, seconds=SECONDS_ON_CPU) for check in checks]
    device = torch.device("cpu" if asked.cpu else "cuda:0")
    setup = Setup(device, photos, sequences, SMALL if asked.cpu else Scale())
    with _file(asked.out, asked.call) as file:
        seconds = asked.seconds or SECONDS_OF_A_CALL * (2 if asked.call == "all" else 1)
        return _measure(checks, setup, seconds, file)


def _measure(checks: Sequence[Check], setup: Setup, seconds: float, file: TextIO) -> int:
    start = monotonic()

    def say(name: str, figure: Figure) -> None:
        line = (
            json.dumps({"seconds": round(monotonic() - start, 1), "check": name, **figure}, default=str)
            + "\n"
        )
        for stream in (sys.stdout, file):
            stream.write(line)
            stream.flush()

    patience = PATIENCE if setup.device.type == "cuda" else PATIENCE_ON_CPU
    bad = run(checks, setup, seconds, say, patience)
    say("end", {"checks": len(checks), "not_well": bad})
    return int(any(reason != "skipped" for reason in bad.values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench/gpu.sh", description=__doc__)
    parser.add_argument("call", nargs="?", choices=("1", "2", "all"), default="all", help="which checks")
    parser.add_argument("--only", metavar="NAMES", help="these checks, with commas between them")
    parser.add_argument("--seconds", type=float, help=f"for all checks; {SECONDS_OF_A_CALL:g} a call")
    parser.add_argument("--photos", default=SAMPLES, help="folder of photographs, some of 640x480 pixels")
    parser.add_argument("--sequences", help="folder in HPatches' layout that networks are scored on")
    parser.add_argument("--out", default=os.environ.get("OUT"), help="folder for a file of the same lines")
    parser.add_argument("--cpu", action="store_true", help="on the CPU, at small sizes: a dry run")
    return parser


def _chosen(call: str, only: str | None) -> list[Check]:
    if only is None:
        return [check for check in CHECKS if call in ("all", str(check.call))]
    known = {check.name: check for check in CHECKS}
    for name in only.split(","):
        if name not in known:
            sys.exit(f"error: {unknown('check', name, known)}")
    return [known[name] for name in only.split(",")]


def _file(folder: str | None, call: str) -> TextIO:
    if folder is None:
        return open(os.devnull, "w", encoding="utf-8")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return Path(folder, f"gpu-{call}.jsonl").open("w", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

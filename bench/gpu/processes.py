"""Checks what needs processes of its own: a fork behind the imports, data-parallel workers, and the tests."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

from bench.gpu.clock import SHOWN, each, wait
from bench.gpu.setup import FLOAT32, Figure, Setup
from bench.step import random_batch
from r2d2.config import TrainConfig
from r2d2.data.share import Share
from r2d2.network import build_network
from r2d2.training.epoch import make_optimiser, train_epoch
from r2d2.training.siamese import SiameseNetwork

ROOT = Path(__file__).parents[2]
TESTED = ("tests/r2d2", "tests/evaluation")
PARTS, STEPS = 2, 5
# Largest relative difference of the weights to those of one worker alone.
LIMIT = 1e-3

FORK = """
import json, os, sys
import torch
import evaluation.evaluator, r2d2.data.loader, r2d2.training.epoch
initialised = torch.cuda.is_initialized()
child = os.fork()
if child == 0:
    os._exit(int(torch.ones(4, device=sys.argv[1]).sum().item() != 4))
status = os.waitpid(child, 0)[1]
print(json.dumps({"initialised_by_imports": initialised, "status_of_child": status}))
"""


def fork(setup: Setup) -> Iterator[Figure]:
    """Yields whether imports touch the GPU, and whether a process that is forked behind them can use it."""
    asked = [sys.executable, "-c", FORK, str(setup.device)]
    done = _output(asked, 90)
    if done.returncode != 0:
        yield {"failed": done.stderr[-SHOWN:]}
        return
    found = json.loads(done.stdout)
    yield {**found, "good": not found["initialised_by_imports"] and found["status_of_child"] == 0}


def workers(setup: Setup) -> Iterator[Figure]:
    """Yields the time of a step of one worker with NCCL and two with gloo, and how their weights differ."""
    alone = _one_process(setup)

    def measure(backend: str, workers: int) -> Figure:
        with tempfile.TemporaryDirectory() as folder:
            spawn(_worker, (workers, backend, setup, folder), nprocs=workers)  # type: ignore[no-untyped-call]
            found = [np.load(Path(folder, f"{rank}.npz")) for rank in range(workers)]
        differences = [_difference(one["weights"], alone) for one in found]
        return {
            "step_ms": round(float(found[0]["step_ms"]), 2),
            "difference_to_one_process": float(f"{max(differences):.3g}"),
            "limit": LIMIT,
            "good": max(differences) <= LIMIT,
        }

    first = "nccl" if setup.device.type == "cuda" else "gloo"
    yield from each(({"backend": b, "workers": w} for b, w in ((first, 1), ("gloo", 2))), measure)


def gpu_tests(_: Setup) -> Iterator[Figure]:
    """Yields what pytest says of the tests that are marked `gpu`."""
    if importlib.util.find_spec("pytest") is None:
        yield {"skipped": "pytest is not installed"}
        return
    files = [
        str(file.relative_to(ROOT))
        for folder in TESTED
        for file in sorted((ROOT / folder).rglob("test_*.py"))
        if "mark.gpu" in file.read_text(encoding="utf-8")
    ]
    # Other versions of packages warn of other things.
    options = [
        "-q",
        "-m",
        "gpu",
        "-W",
        "default",
        "-p",
        "no:cacheprovider",
        "--continue-on-collection-errors",
    ]
    asked = [sys.executable, "-m", "pytest", *options, *files]
    done = _output(asked, 150)
    lines = (done.stdout + done.stderr).strip().splitlines()
    shown = {} if done.returncode == 0 else {"output": "\n".join(lines)[-SHOWN:]}
    yield {"files": files, "pytest": lines[-1] if lines else "", "good": done.returncode == 0, **shown}


def _output(asked: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603  (our own)


def _worker(rank: int, workers: int, backend: str, setup: Setup, folder: str) -> None:
    """Trains as one of some workers, and writes its weights and the time of a step."""
    store = f"file://{folder}/store"
    distributed.init_process_group(
        backend, init_method=store, rank=rank, world_size=workers, timeout=timedelta(seconds=90)
    )
    try:
        weights, step_ms = _train(setup, Share.of_worker(rank, workers, PARTS), parallel=True)
    finally:
        distributed.destroy_process_group()
    np.savez(Path(folder, f"{rank}.npz"), weights=weights, step_ms=step_ms)


def _one_process(setup: Setup) -> np.ndarray:
    return _train(setup, Share.of_worker(0, 1, PARTS), parallel=False)[0]


def _train(setup: Setup, share: Share, parallel: bool) -> tuple[np.ndarray, float]:
    """The weights after some steps, and milliseconds of a step; the first one is left out."""
    config: TrainConfig = replace(setup.config("fast", FLOAT32), num_workers=PARTS)
    network = build_network(config.network, seed=0).to(setup.device)
    siamese: torch.nn.Module = SiameseNetwork(network, compute=config.compute)
    if parallel:
        siamese = torch.nn.parallel.DistributedDataParallel(siamese, broadcast_buffers=False)
    batches = [
        random_batch(config.pairs_per_worker, config.data.crop_size, seed=step * PARTS + part)
        for step in range(STEPS)
        for part in share.parts
    ]
    steps = train_epoch(siamese, batches, config, make_optimiser(network, config), epoch=1, share=share)
    for _ in share.parts:
        next(steps)
    wait(setup.device)
    start = perf_counter()
    list(steps)
    wait(setup.device)
    step_ms = 1e3 * (perf_counter() - start) / (STEPS - 1)
    weights = torch.cat([p.detach().flatten() for p in network.parameters()])
    return weights.cpu().numpy(), step_ms


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
    wanted = expected.astype(np.float64)
    return float(np.linalg.norm(found.astype(np.float64) - wanted) / np.linalg.norm(wanted))

"""Looks at other things than speed: equal numbers twice, errors of memory, memory that is kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from bench.gpu.clock import GIB, each, wait
from bench.gpu.setup import NETWORKS, Figure, Setup
from bench.gpu.steps import Trainer
from r2d2.config import TrainConfig
from r2d2.losses.reliability import RELIABILITY_LOSSES
from r2d2.training.device import OutOfMemory, enough_memory

EPOCHS = 8
# Of the device's memory: what a step of `quad` cannot live in.
LITTLE = 0.01
# Left to others while one process holds the rest.
LEFT = GIB // 8

# What a second process says that finds no memory left, of whichever library asks first.
OTHER = """
import torch
from r2d2.config import TrainConfig
from r2d2.losses.reliability import RELIABILITY_LOSSES
from r2d2.training.device import OutOfMemory, enough_memory
device = torch.device("cuda")
with enough_memory(TrainConfig(), device):
    x = torch.ones(4096, 4096, device=device)
    torch.nn.functional.conv2d((x @ x).view(1, 1, 4096, 4096), torch.ones(64, 1, 3, 3, device=device))
"""


def determinism(setup: Setup) -> Iterator[Figure]:
    """Yields whether two steps give the same weights twice, without and with `compute.deterministic`."""

    def measure(network: str, loss: str, deterministic: bool) -> Figure:
        config = setup.config(network)
        compute = replace(config.compute, deterministic=deterministic)
        config = replace(config, compute=compute, loss=replace(config.loss, reliability=loss))
        first, second = (_weights_after(config, setup.device) for _ in range(2))
        seconds, _ = Trainer(config, setup.device).seconds(setup.scale.seconds / 2)
        equal = bool(torch.equal(first, second))
        return {
            "equal": equal,
            "largest_difference": float((first - second).abs().max()),
            "step_ms": round(1e3 * seconds, 3),
            # Nothing is promised without the setting.
            **({"good": equal} if deterministic else {}),
        }

    names = [(n, loss, d) for n in NETWORKS for loss in RELIABILITY_LOSSES for d in (False, True)]
    yield from each(({"network": n, "loss": loss, "deterministic": d} for n, loss, d in names), measure)


def memory_errors(setup: Setup) -> Iterator[Figure]:
    """Yields the words of errors of memory, and whether training recognises them."""
    config = setup.config("quad")

    def allocate() -> None:
        torch.empty(2**45, dtype=torch.uint8, device=setup.device)

    def step_in_little() -> None:
        torch.cuda.set_per_process_memory_fraction(LITTLE, setup.device)
        try:
            Trainer(setup.config("quad", pairs_per_worker=max(setup.scale.pairs)), setup.device).steps(1)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, setup.device)

    yield {"asked": "32 TiB", **_error_of(allocate, config, setup.device)}
    if setup.device.type != "cuda":
        yield {"asked": "a step in little memory", "skipped": "a CPU has no share of its memory to set"}
        return
    yield {"asked": f"a step in {LITTLE:.0%} of memory", **_error_of(step_in_little, config, setup.device)}
    yield {"asked": "a second process on a full device", **_beside_a_full_device(setup.device)}


def kept_memory(setup: Setup) -> Iterator[Figure]:
    """Yields what PyTorch has reserved after each epoch; a new stream for each would keep ever more."""
    trainer, reserved = Trainer(setup.config(), setup.device), []
    for _ in range(EPOCHS):
        trainer.steps(2)
        wait(setup.device)
        if setup.device.type == "cuda":
            reserved.append(torch.cuda.memory_reserved(setup.device) >> 20)
    if not reserved:
        yield {"epochs": EPOCHS, "skipped": "PyTorch reserves no memory of a CPU"}
        return
    yield {"epochs": EPOCHS, "reserved_mib": reserved, "good": reserved[-1] <= 1.1 * reserved[1]}


def _weights_after(config: TrainConfig, device: torch.device) -> torch.Tensor:
    trainer = Trainer(config, device)
    trainer.steps(2)
    return torch.cat([p.detach().flatten() for p in trainer.network.parameters()])


def _error_of(work: Callable[[], None], config: TrainConfig, device: torch.device) -> Figure:
    try:
        with enough_memory(config, device):
            work()
    except OutOfMemory as error:
        words = str(error.__cause__).splitlines()[0][:200]
        return {"error": type(error.__cause__).__name__, "words": words, "good": True}
    except Exception as error:  # What is not recognised is the figure.
        return {"error": type(error).__name__, "words": str(error)[:200], "good": False}
    return {"error": None, "good": False}


def _beside_a_full_device(device: torch.device) -> Figure:
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    filled = torch.empty(max(0, free - LEFT), dtype=torch.uint8, device=device)
    asked = [sys.executable, "-c", OTHER]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603  (our own)
    del filled
    torch.cuda.empty_cache()
    lines = [line for line in done.stderr.splitlines() if "rror" in line or "OutOfMemory" in line]
    return {"words": [line[:200] for line in lines[-3:]], "good": OutOfMemory.__name__ in done.stderr}

"""Measures the training step: pairs a second, memory, and where its time goes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from bench.gpu.clock import WARM_UP, each, elapsed, forget_peak, peak_gib, rounds_within
from bench.gpu.setup import BFLOAT16, FLOAT32, NETWORKS, TF32, Figure, Setup
from bench.step import random_batch
from r2d2.config import TrainConfig
from r2d2.containers import PairBatch
from r2d2.network import build_network
from r2d2.training.epoch import make_optimiser, train_epoch
from r2d2.training.siamese import SiameseNetwork

NAMED_KERNELS = 8


class Trainer:
    """A Trainer is a network in training; all its steps are on one batch that lies on the device."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.network = build_network(config.network, seed=0).to(device)
        self.siamese = SiameseNetwork(self.network, compute=config.compute)
        self.optimiser = make_optimiser(self.network, config)
        self.batch: PairBatch = random_batch(config.pairs_per_worker, config.data.crop_size).to(device)

    def steps(self, count: int) -> None:
        """Trains `count` steps."""
        list(train_epoch(self.siamese, [self.batch] * count, self.config, self.optimiser, epoch=1))

    def seconds(self, spend: float) -> tuple[float, float]:
        """Returns the seconds of a step, and those of the very first one; measures for about `spend`."""
        first = elapsed(lambda: self.steps(1), self.device)
        one = elapsed(lambda: self.steps(WARM_UP), self.device) / WARM_UP
        count = rounds_within(spend, one)
        return elapsed(lambda: self.steps(count), self.device) / count, first


def step(setup: Setup) -> Iterator[Figure]:
    """Yields pairs a second and memory, the usual number of pairs first, then all others."""
    others = [pairs for pairs in setup.scale.pairs if pairs != setup.scale.usual_pairs]
    for pairs in (setup.scale.usual_pairs, *others):
        yield from _steps(setup, pairs, compiled=False)


def compiled_step(setup: Setup) -> Iterator[Figure]:
    """Yields the same of the compiled network, at the usual number of pairs; the first step compiles."""
    if setup.device.type != "cuda":
        yield {"skipped": "a network compiled for a CPU tells nothing of a GPU, and takes a minute"}
        return
    yield from _steps(setup, setup.scale.usual_pairs, compiled=True)


def _steps(setup: Setup, pairs: int, compiled: bool) -> Iterator[Figure]:
    def measure(network: str, precision: str, pairs: int, compiled: bool) -> Figure:
        config = setup.config(network, precision, compiled, pairs_per_worker=pairs)
        forget_peak(setup.device)
        seconds, first = Trainer(config, setup.device).seconds(setup.scale.seconds)
        work = network_flops(setup, network)
        return {
            "pairs_per_s": round(pairs / seconds, 1),
            "step_ms": round(1e3 * seconds, 3),
            "first_step_s": round(first, 2),
            "network_gflop_per_pair": round(work / 1e9, 2),
            "network_tflops": round(work * pairs / seconds / 1e12, 2),
            "peak_gib": peak_gib(setup.device),
        }

    # What is not chosen for its speed is measured once.
    usual = pairs == setup.scale.usual_pairs and not compiled
    precisions = (TF32, BFLOAT16, FLOAT32) if usual else (TF32, BFLOAT16)
    names = [(network, precision) for network in NETWORKS for precision in precisions]
    yield from each(
        (
            {"network": network, "precision": precision, "pairs": pairs, "compiled": compiled}
            for network, precision in names
        ),
        measure,
    )


@cache
def network_flops(setup: Setup, network: str) -> int:
    """Counts the floating-point operations of one pair through the convolutions, forwards and backwards."""
    config = setup.config(network).network
    # Of a window a quarter as wide; all layers are convolutions, whose work grows with the area.
    part = 4 if setup.scale.side >= 128 else 1
    batch = random_batch(1, setup.scale.side // part)
    siamese = SiameseNetwork(build_network(config, seed=0))
    with FlopCounterMode(display=False) as counter:
        maps = siamese(batch.image1, batch.image2)
        ends = [end for one in maps for end in (one.descriptors, one.reliability, one.repeatability)]
        torch.autograd.backward(ends, [torch.ones_like(end) for end in ends])
    return int(counter.get_total_flops()) * part**2


def step_profile(setup: Setup) -> Iterator[Figure]:
    """Yields launches of a step, the share of its time that the device computes, and what takes longest."""

    def measure(network: str, precision: str) -> Figure:
        trainer = Trainer(setup.config(network, precision), setup.device)
        trainer.steps(WARM_UP)
        steps = setup.scale.profiled_steps
        on_gpu = setup.device.type == "cuda"
        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        with profile(activities=kinds) as seen:
            seconds = elapsed(lambda: trainer.steps(steps), setup.device)
        # Kernels and copies of the GPU; without one the operations of the CPU.
        events = [e for e in seen.key_averages() if not on_gpu or "CUDA" in str(e.device_type)]
        spent = Counter[str]()
        for event in events:
            time = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            spent[event.key] += time / 1e3 / steps
        count = sum(event.count for event in events)
        return {
            "launches": round(count / steps),
            "busy_ms": round(sum(spent.values()), 2),
            "step_ms_profiled": round(1e3 * seconds / steps, 2),
            "longest_ms": {name[:80]: round(ms, 3) for name, ms in spent.most_common(NAMED_KERNELS)},
        }

    names = [(network, precision) for network in NETWORKS for precision in (TF32, BFLOAT16)]
    yield from each(({"network": n, "precision": a} for n, a in names), measure)

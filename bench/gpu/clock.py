"""Times work on a device: the device is waited for on both sides, and first calls do not count."""

from __future__ import annotations

import statistics
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter
from typing import Any

import torch

from bench.gpu.setup import Figure

WARM_UP = 3
MOST_ROUNDS = 200
LEAST_ROUNDS = 3
# Of a traceback the end, which says what happened.
SHOWN = 1500
GIB = 2**30


def wait(device: torch.device) -> None:
    """Waits until the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def elapsed(work: Callable[[], object], device: torch.device) -> float:
    """Returns the seconds that one call takes until its result is there."""
    wait(device)
    start = perf_counter()
    work()
    wait(device)
    return perf_counter() - start


def call_times(work: Callable[[], object], device: torch.device, seconds: float) -> Figure:
    """Times calls for about `seconds`, each waited for: their median, the least, and how many."""
    first = elapsed(work, device)
    for _ in range(WARM_UP - 1):
        last = elapsed(work, device)
    rounds = rounds_within(seconds, last)
    times = [1e3 * elapsed(work, device) for _ in range(rounds)]
    return {
        "median_ms": round(statistics.median(times), 3),
        "least_ms": round(min(times), 3),
        "rounds": rounds,
        "first_ms": round(1e3 * first, 1),
    }


def rounds_within(seconds: float, one: float) -> int:
    """Returns how many rounds of `one` second each fit into `seconds`, within bounds."""
    return max(LEAST_ROUNDS, min(MOST_ROUNDS, round(seconds / max(one, 1e-6))))


def forget_peak(device: torch.device) -> None:
    """Gives unused memory of the device back, and begins to look for the peak anew."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_gib(device: torch.device) -> float | None:
    """Returns the most memory that tensors took on the device since `forget_peak`, GiB; None on a CPU."""
    if device.type != "cuda":
        return None
    return round(torch.cuda.max_memory_allocated(device) / GIB, 3)


def each(
    variants: Iterable[Mapping[str, Any]], measure: Callable[..., Mapping[str, Any]]
) -> Iterator[Figure]:
    """Measures each variant, and yields its names with its figures; one that fails has its traceback.

    Args:
        variants: keyword arguments of `measure`.
        measure: returns figures.
    """
    for variant in variants:
        try:
            yield {**variant, **measure(**variant)}
        except Exception:  # Whatever it is, the other variants are still measured.
            yield {**variant, "failed": traceback.format_exc()[-SHOWN:]}

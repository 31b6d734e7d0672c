"""Uses the device of a training: copies batches ahead, compiles, and explains too little memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache

import torch
from torch import nn

from r2d2.config import ComputeConfig, TrainConfig
from r2d2.containers import Deliverable, PairBatch
from r2d2.processor.arithmetic import IEEE, TF32, float32_as
from r2d2.processor.memory import is_of_memory, memory_figures


class OutOfMemory(ValueError):  # noqa: N818 - it says what happened
    """Says that a step needs more memory than the device has."""


def ahead(batches: Iterable[Deliverable], device: torch.device) -> Iterator[tuple[Deliverable, PairBatch]]:
    """Yields each batch as it came, and on `device`.

    On a GPU the next batch is copied, from pinned memory and on a stream of its own, and perhaps its pixels
    are made, while the current one is in work: one batch more is asked for than was handed out. On a CPU
    nothing is asked for ahead.
    """
    if device.type == "cpu":
        for batch in batches:
            yield batch, batch.to(device)
        return
    stream = _copy_stream(device)
    waiting: tuple[Deliverable, PairBatch, torch.cuda.Event | None] | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            # Pinned by the loader already, unless it works in this process.
            copied = batch.pin_memory().to(device)
            following = (batch, copied, None if stream is None else stream.record_event())
        if waiting is not None:
            yield _arrived(*waiting)
        waiting = following
    if waiting is not None:
        yield _arrived(*waiting)


@cache
def _copy_stream(device: torch.device) -> torch.cuda.Stream | None:
    """The stream of a GPU's copies; each has memory of its own, so that a new one an epoch would add up."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]


def _arrived(
    batch: Deliverable, copied: PairBatch, copy: torch.cuda.Event | None
) -> tuple[Deliverable, PairBatch]:
    """Lets the current stream wait for the copy, and the memory live until that stream has used it."""
    if copy is None:
        return batch, copied
    current = torch.cuda.current_stream(copied.image1.device)
    current.wait_event(copy)
    for tensor in (copied.image1, copied.image2, copied.aflow):
        tensor.record_stream(current)
    return batch, copied


def compile_network(network: nn.Module, device: torch.device) -> None:
    """Has the network compiled by torch.compile when it first runs; its weights and their names stay.

    Raises:
        ValueError: if this machine cannot compile for `device`; says why.
    """
    try:
        torch.compile(_probe)(torch.ones(4, device=device))
    except Exception as error:  # The compiler's own errors have no common type.
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
        raise ValueError(
            f"compute.compile is true, but torch.compile does not work for {device} on this machine: "
            f"{reason}; install what it needs (a C++ compiler, on a GPU triton too) or set it to false"
        ) from error
    network.compile()


def _probe(x: torch.Tensor) -> torch.Tensor:
    return x.square() + 1


def arithmetic_of(compute: ComputeConfig, device: torch.device) -> AbstractContextManager[None]:
    """Sets what float32 means in a step, forwards and backwards; see `r2d2.processor.arithmetic`."""
    return float32_as(TF32 if compute.precision == "tf32" else IEEE, device, compute.deterministic)


@contextmanager
def enough_memory(config: TrainConfig, device: torch.device) -> Iterator[None]:
    """Says in one sentence what to lower if the work inside runs out of memory.

    Args:
        config: the training.
        device: of the network.

    Raises:
        OutOfMemory: in place of PyTorch's error.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_of_memory(error):
            raise
        side = config.data.crop_size
        raise OutOfMemory(
            f"{config.pairs_per_worker} pairs of {side} x {side} px do not fit into the memory of {device} "
            f"({memory_figures(device)}); lower pairs_per_worker (it is part of the loss), "
            "data.crop_size or network.channels, or set compute.precision to bfloat16"
        ) from error

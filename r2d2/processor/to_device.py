"""Brings tensors and constants to a device without waiting for the work that it still has to do."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def copied(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies a tensor to a device; the processor goes on at once.

    A GPU is not waited for only where it copies from pinned memory. What its stream is told later finds the
    copy done.

    Args:
        tensor: (N, ...), of any type.
        device: where it goes.

    Returns:
        (N, ...), the same numbers on the device.
    """
    if device.type == "cpu" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@lru_cache(maxsize=64)
def constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Returns numbers as a tensor, (n,), on a device to which they were copied once. Never write to it."""
    # A tensor made in inference mode could not take part in training later.
    with torch.inference_mode(mode=False):
        return copied(torch.tensor(values, dtype=dtype), device)

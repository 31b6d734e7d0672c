"""Says what float32 means on a GPU, and whether the same numbers must come out each time.

By PyTorch's default cuDNN rounds the inputs of a convolution in float32 to 10 bits of mantissa (TF32),
forwards and backwards, while matrix products keep all 23.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

IEEE, TF32 = "ieee", "tf32"

# cuBLAS adds in a fixed order only in a workspace of a fixed size, which it reads before its first product.
_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def float32_as(convolutions: str, device: torch.device, deterministic: bool = False) -> Iterator[None]:
    """Sets the arithmetic of float32 on a GPU for the work inside, gradients included if made inside.

    Args:
        convolutions: `ieee`, or `tf32`; matrix products are always `ieee`. A CPU computes in `ieee`.
        device: of the work.
        deterministic: whether an operation that may add in another order each time is refused. On a CPU of
            several threads it adds in one of them. What PyTorch cannot do in a fixed order on a GPU is done
            in other ways by `r2d2.warp` and `r2d2.losses`.

    Raises:
        RuntimeError: PyTorch's, inside, for an operation that has no deterministic form.
    """
    former = torch.get_deterministic_debug_mode()
    if deterministic:
        os.environ.setdefault(*_WORKSPACE)
        torch.set_deterministic_debug_mode("error")
    try:
        with _convolutions_as(convolutions, device):
            yield
    finally:
        torch.set_deterministic_debug_mode(former)


@contextmanager
def _convolutions_as(wanted: str, device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    flags: tuple[tuple[Any, str], ...] = (
        (torch.backends.cudnn.conv, wanted),  # type: ignore[attr-defined]
        (torch.backends.cuda.matmul, IEEE),
    )
    former = [flag.fp32_precision for flag, _ in flags]
    for flag, value in flags:
        flag.fp32_precision = value
    try:
        yield
    finally:
        for (flag, _), value in zip(flags, former, strict=True):
            flag.fp32_precision = value


def in_fixed_order(tensor: torch.Tensor) -> bool:
    """Says whether an operation on this tensor must be replaced by one that adds in a fixed order.

    On a CPU each operation that this project uses has such a form of its own.

    Args:
        tensor: of any shape and type; its device counts.
    """
    return torch.are_deterministic_algorithms_enabled() and not tensor.is_cpu

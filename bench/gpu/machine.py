"""Says what is measured on, and the rates of its arithmetic and memory, which no figure can exceed."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator

import numpy
import torch

from bench.gpu.clock import GIB, call_times
from bench.gpu.setup import Figure, Setup
from r2d2.version import code_version

# What `nvidia-smi` is asked for.
CLOCKS = "driver_version,clocks.sm,clocks.mem,clocks.max.sm,power.draw,power.limit,temperature.gpu"


def machine(setup: Setup) -> Iterator[Figure]:
    """Yields the versions, the measured ceilings, and the clocks right behind them."""
    device = setup.device
    versions = {"python": platform.python_version(), "torch": torch.__version__, "numpy": numpy.__version__}
    yield {"code": code_version(), **versions, "cpus": os.cpu_count(), **_device(device)}
    yield from _ceilings(setup)
    yield _clocks() if device.type == "cuda" else {"clocks": "not asked for: there is no GPU"}


def _device(device: torch.device) -> Figure:
    if device.type != "cuda":
        return {"device": str(device)}
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": properties.name,
        "memory_gib": round(properties.total_memory / GIB, 1),
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
    }


def _ceilings(setup: Setup) -> Iterator[Figure]:
    """TFLOP/s of a large product in each arithmetic, and GB/s of a large copy, read and written."""
    device, side = setup.device, 8192 if setup.device.type == "cuda" else 256
    values = torch.randn(side, side, device=device)
    former = torch.backends.cuda.matmul.fp32_precision
    for name, precision in (("float32", "ieee"), ("tf32", "tf32")):
        torch.backends.cuda.matmul.fp32_precision = precision
        yield _product(name, values, setup)
    torch.backends.cuda.matmul.fp32_precision = former
    yield _product("bfloat16", values.bfloat16(), setup)
    source = torch.randn(side * side * 4, device=device)
    target = torch.empty_like(source)
    times = call_times(lambda: target.copy_(source), device, setup.scale.seconds / 4)
    yield {"ceiling": "copy", "gb_per_s": round(2 * source.nbytes / times["median_ms"] / 1e6, 1)}


def _product(name: str, values: torch.Tensor, setup: Setup) -> Figure:
    times = call_times(lambda: values @ values, setup.device, setup.scale.seconds / 4)
    return {
        "ceiling": f"product of {len(values)} x {len(values)}",
        "arithmetic": name,
        "tflops": round(2 * len(values) ** 3 / times["median_ms"] / 1e9, 2),
    }


def _clocks() -> Figure:
    if shutil.which("nvidia-smi") is None:
        return {"clocks": "nvidia-smi is not installed"}
    asked = ["nvidia-smi", f"--query-gpu={CLOCKS}", "--format=csv,noheader"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603  (fixed command)
    if done.returncode != 0:
        return {"clocks": f"nvidia-smi failed: {(done.stderr or done.stdout).strip()[:200]}"}
    first = done.stdout.strip().splitlines()[0]
    return {"clocks": dict(zip(CLOCKS.split(","), (part.strip() for part in first.split(",")), strict=True))}

"""Says which processor computes: what the same program's numbers depend on."""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Processor:
    """A Processor says where a training is computed. On two equal ones it gives the same numbers.

    Attributes:
        cpu: the model's name.
        capability: the instructions that PyTorch uses, e.g. AVX2 or AVX512.
        threads: of the computation.
        gpu: the model's name, with the versions of CUDA and cuDNN; empty: the CPU computes.
    """

    cpu: str
    capability: str
    threads: int
    gpu: str = ""


def this_processor(device: torch.device, threads: int) -> Processor:
    """Describes the processor behind a device.

    Args:
        device: of the computation.
        threads: of the computation on a CPU.
    """
    import torch

    gpu = ""
    if device.type == "cuda":
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        gpu = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}, cuDNN {cudnn}"
    return Processor(_cpu_name(), torch.backends.cpu.get_cpu_capability(), threads, gpu)


@functools.cache
def _cpu_name(file: Path = Path("/proc/cpuinfo")) -> str:
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()

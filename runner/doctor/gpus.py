"""Looks whether PyTorch's build fits a machine's GPUs and driver, and what its arithmetic can do there."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence

# From there on a GPU has arithmetic for bfloat16 and TF32.
_AMPERE = (8, 0)
_ANSWER_WITHIN_S = 20.0


def describe_gpus(expected: float = 0.0) -> str:
    """Describes this machine's GPUs: names, and what a training can not do there.

    Args:
        expected: how many Ray counts.

    Raises:
        ValueError: if PyTorch cannot use them; says why and what to install.
    """
    import torch

    built, driver = torch.version.cuda, driver_cuda()
    advice = "; see cluster/README.md for builds of other CUDA releases"
    if driver is not None and built is None:
        raise ValueError(f"there is a GPU, but PyTorch {torch.__version__} is built without CUDA{advice}")
    if driver is not None and built is not None and driver[0] < int(built.partition(".")[0]):
        raise ValueError(
            f"PyTorch {torch.__version__} is built for CUDA {built}, the driver knows CUDA "
            f"{driver[0]}.{driver[1]} only; install a newer driver or another build of PyTorch{advice}"
        )
    count = torch.cuda.device_count()
    if expected and not count:
        raise ValueError(
            f"Ray counts {expected:g} GPUs, but PyTorch {torch.__version__} sees none; look at "
            "the driver (nvidia-smi) and at the build of PyTorch"
        )
    notes = [_describe(number) for number in range(count)]
    if shutil.which("c++") is None or (
        count and shutil.which("gcc") is None and shutil.which("clang") is None
    ):
        notes.append("no compiler, so compute.compile is refused (install gcc and g++)")
    return ", ".join(notes if count else ["no GPU", *notes])


def _describe(number: int) -> str:
    """Describes a GPU in words.

    Raises:
        ValueError: if PyTorch's build has no code for it.
    """
    import torch

    name, capability = torch.cuda.get_device_name(number), torch.cuda.get_device_capability(number)
    built = torch.cuda.get_arch_list()
    if not is_built_for(capability, built):
        raise ValueError(
            f"PyTorch {torch.__version__} has no code for {name} (compute capability {capability[0]}."
            f"{capability[1]}), only for {', '.join(built)}; install a build that has it, see "
            "cluster/README.md"
        )
    if capability < _AMPERE:
        return f"{name} (emulates bfloat16, slowly; tf32 is float32 there)"
    return name


def is_built_for(capability: tuple[int, int], built: Sequence[str]) -> bool:
    """Says whether a GPU can run a build of PyTorch.

    Machine code `sm_86` runs on GPUs of its major number and at least its minor one; `compute_90` is compiled
    by the driver for any GPU from there on.

    Args:
        capability: the GPU's, e.g. (8, 6).
        built: as of `torch.cuda.get_arch_list`.
    """
    for kind, major, minor in (
        found for name in built for found in re.findall(r"^(sm|compute)_(\d+)(\d)", name)
    ):
        code = (int(major), int(minor))
        if code <= capability and (kind == "compute" or code[0] == capability[0]):
            return True
    return False


def driver_cuda() -> tuple[int, int] | None:
    """Asks nvidia-smi for the CUDA release that the driver knows; None without one."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return None
    try:
        answer = subprocess.run(  # noqa: S603  (fixed command)
            [command], capture_output=True, text=True, check=False, timeout=_ANSWER_WITHIN_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"nvidia-smi does not answer: {error}") from error
    found = re.search(r"CUDA Version: (\d+)\.(\d+)", answer.stdout)
    return (int(found[1]), int(found[2])) if found else None

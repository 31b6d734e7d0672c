"""Recognises a lack of memory by its many names, and divides a GPU's memory among processes."""

from __future__ import annotations

import os
import resource

import torch

GIB = 2**30

# In lower case. PyTorch has an own error for its allocator on a GPU; the others raise plain errors with these
# words: the CPU's allocator, CUDA's runtime and driver, NCCL and Triton, and CUDA's libraries (CUBLAS_STATUS_
# and CUDNN_STATUS_ALLOC_FAILED, cuDNN 9's ..._HOST_ALLOCATION_FAILED and ..._DEVICE_ALLOCATION_FAILED).
_WORDS = (
    "out of memory",
    "t allocate memory",  # "can't", and "cannot"
    "not enough memory",
    "alloc_failed",
    "allocation_failed",
    "failed to cuda calloc",
)


def is_of_memory(error: BaseException) -> bool:
    """Says whether an error means that a CPU or a GPU has too little memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)


def limit_memory(share: float, device: torch.device) -> None:
    """Bounds what PyTorch takes of a GPU that several processes share; a whole GPU, or a CPU, is not bounded.

    CUDA's own context, some hundreds of megabytes in each process, comes on top.

    Args:
        share: of the GPU, more than 0.
        device: the GPU.
    """
    if device.type == "cuda" and 0 < share < 1:
        torch.cuda.set_per_process_memory_fraction(share, device)


def memory_figures(device: torch.device) -> str:
    """Says how much memory a device has, how much of it is free, and how much this process uses."""
    limit = ""
    if device.type == "cuda" and torch.cuda.is_available():
        free, there = torch.cuda.mem_get_info(device)
        own = torch.cuda.max_memory_allocated(device)
        share = torch.cuda.get_per_process_memory_fraction(device)
        limit = f" of the {share * there / GIB:.1f} that its share of the GPU allows" if share < 1 else ""
    else:
        page = os.sysconf("SC_PAGE_SIZE")
        free, there = os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return f"{there / GIB:.1f} GiB, {free / GIB:.1f} free; this process used up to {own / GIB:.1f}{limit}"

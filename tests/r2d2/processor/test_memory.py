"""A lack of memory is recognised by what PyTorch says of it, and a share of a GPU bounds its memory."""

from __future__ import annotations

import pytest
import torch

from r2d2.processor.memory import is_of_memory, limit_memory, memory_figures

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")

# As PyTorch 2.11 and 2.13, CUDA's libraries, NCCL and Triton say it.
SHORT = (
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
    RuntimeError("unable to mmap 4096 bytes from file </torch_1>: Cannot allocate memory (12)"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of"),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
    RuntimeError("NCCL error: ncclUnhandledCudaError ... Last error:\nCuda failure 2 'out of memory'"),
    RuntimeError("NCCL error ... Last error:\nFailed to CUDA calloc async 608 bytes"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    MemoryError(),
)
OTHERS = (
    RuntimeError("shapes do not fit"),
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
    ValueError("out of memory"),
)


@pytest.mark.parametrize("error", SHORT, ids=lambda error: str(error)[:50])
def test_every_word_for_it_is_known(error):
    assert is_of_memory(error)


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: str(error)[:50])
def test_other_errors_are_other_errors(error):
    assert not is_of_memory(error)


def test_what_this_machine_says_is_among_them():
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60)
    assert is_of_memory(raised.value)


@pytest.mark.parametrize(
    ("share", "device", "bounds"),
    [(0.25, GPU, [(0.25, GPU)]), (1.0, GPU, []), (0.0, CPU, []), (0.5, CPU, [])],
)
def test_a_fraction_of_a_gpu_is_one_of_its_memory(monkeypatch, share, device, bounds):
    set_bounds = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *args: set_bounds.append(args))
    limit_memory(share, device)
    assert set_bounds == bounds


def test_the_figures_say_what_a_share_allows(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10 * 2**30, 80 * 2**30))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: 15 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 0.2)
    assert memory_figures(GPU) == (
        "80.0 GiB, 10.0 free; this process used up to 15.0 of the 16.0 that its share of the GPU allows"
    )
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 1.0)
    assert memory_figures(GPU).endswith("used up to 15.0")

"""The doctor says which GPUs PyTorch can use, why it cannot, and what they lack: with a stand-in for CUDA."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest
import torch

from runner.doctor import gpus
from runner.doctor.gpus import describe_gpus, driver_cuda, is_built_for

# Of a build for CUDA 13, which has no code for Volta.
BUILT = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


@pytest.fixture
def machine(monkeypatch):
    """`machine(...)`: a machine with one GPU and a build of PyTorch for CUDA 13."""

    def make(
        name="NVIDIA H200", capability=(9, 0), driver=(13, 0), built="13.0", count=1, tools=("c++", "gcc")
    ):
        monkeypatch.setattr(gpus, "driver_cuda", lambda: driver)
        monkeypatch.setattr(torch.version, "cuda", built)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: name)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: BUILT)
        monkeypatch.setattr(gpus.shutil, "which", lambda tool: tool if tool in tools else None)

    return make


def test_a_gpu_that_can_be_used_is_named(machine):
    machine()
    assert describe_gpus(1) == "NVIDIA H200"
    machine(count=2)
    assert describe_gpus(2) == "NVIDIA H200, NVIDIA H200"
    machine(driver=None, built=None, count=0)
    assert describe_gpus() == "no GPU"


def test_a_driver_older_than_the_build_is_named(machine):
    machine(driver=(12, 8))
    with pytest.raises(
        ValueError, match=r"is built for CUDA 13\.0, the driver knows CUDA 12\.8 only; install a"
    ):
        describe_gpus(1)
    # Minor releases of one major one go together.
    machine(driver=(12, 2), built="12.8")
    assert describe_gpus(1) == "NVIDIA H200"


def test_a_build_without_cuda_beside_a_gpu_is_named(machine):
    machine(built=None, count=0)
    with pytest.raises(ValueError, match=r"there is a GPU, but PyTorch .* is built without CUDA"):
        describe_gpus()


def test_gpus_that_ray_counts_and_pytorch_does_not_see_are_named(machine):
    machine(driver=None, count=0)
    with pytest.raises(ValueError, match=r"Ray counts 2 GPUs, but PyTorch .* sees none; look at the driver"):
        describe_gpus(2)


def test_a_gpu_that_the_build_has_no_code_for_is_named(machine):
    machine("Tesla V100", (7, 0))
    with pytest.raises(
        ValueError, match=r"no code for Tesla V100 \(compute capability 7\.0\), only for sm_75"
    ):
        describe_gpus(1)


def test_what_a_gpu_or_the_machine_lacks_is_said(machine):
    machine("Tesla T4", (7, 5))
    assert describe_gpus(1) == "Tesla T4 (emulates bfloat16, slowly; tf32 is float32 there)"
    machine(tools=())
    assert describe_gpus(1).startswith("NVIDIA H200, no compiler, so compute.compile is refused")


@pytest.mark.parametrize(
    ("capability", "able"),
    [
        *(((7, 0), False), ((7, 5), True), ((8, 0), True), ((8, 9), True), ((10, 3), True)),
        *(((11, 0), False), ((12, 1), True), ((13, 0), True)),
    ],
)
def test_code_runs_on_its_major_number_and_later_minor_ones(capability, able):
    assert is_built_for(capability, BUILT) == able
    assert not is_built_for((8, 0), ["sm_86"])


def test_the_driver_is_asked_by_nvidia_smi(monkeypatch):
    header = "| NVIDIA-SMI 570.86    Driver Version: 570.86    CUDA Version: 12.8     |"
    monkeypatch.setattr(gpus.shutil, "which", lambda tool: f"/usr/bin/{tool}")
    monkeypatch.setattr(gpus.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=header))
    assert driver_cuda() == (12, 8)
    monkeypatch.setattr(gpus.subprocess, "run", lambda *_, **__: SimpleNamespace(stdout="no devices"))
    assert driver_cuda() is None

    def hang(*_, **__):
        raise subprocess.TimeoutExpired("nvidia-smi", 20)

    monkeypatch.setattr(gpus.subprocess, "run", hang)
    with pytest.raises(ValueError, match="nvidia-smi does not answer"):
        driver_cuda()
    monkeypatch.setattr(gpus.shutil, "which", lambda _: None)
    assert driver_cuda() is None

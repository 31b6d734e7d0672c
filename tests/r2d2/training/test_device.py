"""Batches arrive in order, a network is compiled or says why not, too little memory has one sentence."""

from __future__ import annotations

import pytest
import torch

from r2d2.config import TrainConfig
from r2d2.containers import PairBatch
from r2d2.network import build_network
from r2d2.network_config import NetworkConfig
from r2d2.training.device import OutOfMemory, ahead, compile_network, enough_memory

CPU = torch.device("cpu")


def batch(number):
    images = torch.full((2, 1, 3, 8, 8), float(number))
    return PairBatch(images[0], images[1], torch.zeros(1, 2, 8, 8), (f"pair {number}",))


def test_on_a_cpu_no_batch_is_asked_for_ahead_and_none_is_lost():
    asked = []

    def batches():
        for number in range(3):
            asked.append(number)
            yield batch(number)

    for number, (came, on_device) in enumerate(ahead(batches(), CPU)):
        assert asked == list(range(number + 1))
        assert came.samples == on_device.samples == (f"pair {number}",)
        assert torch.equal(on_device.image1, came.image1)
    assert asked == [0, 1, 2]


@pytest.mark.gpu
def test_on_a_gpu_batches_are_copied_ahead_in_order():
    device = torch.device("cuda")
    pairs = list(ahead((batch(number) for number in range(5)), device))
    assert [int(copied.image1.mean()) for _, copied in pairs] == [0, 1, 2, 3, 4]
    assert all(copied.image1.device.type == "cuda" for _, copied in pairs)


def test_where_nothing_can_be_compiled_the_setting_is_refused_with_the_reason(monkeypatch):
    def fail(_):
        raise RuntimeError("No working C++ compiler found\nand a long story")

    monkeypatch.setattr(torch, "compile", lambda _: fail)
    network = build_network(NetworkConfig("fast", channels=1, dim=4), seed=0)
    sentence = (
        r"compute.compile is true, but .* does not work for cpu.*: No working C\+\+ compiler found; install"
    )
    with pytest.raises(ValueError, match=sentence):
        compile_network(network, CPU)


# PyTorch's own, of its compiler.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.slow
def test_a_compiled_network_answers_the_same_and_keeps_its_names():
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    network, plain = (build_network(NetworkConfig("fast", channels=1, dim=4), seed=0) for _ in range(2))
    compile_network(network, CPU)
    found, expected = network(image), plain(image)
    for name, tensor in vars(expected).items():
        torch.testing.assert_close(getattr(found, name), tensor, rtol=1e-4, atol=1e-5)
    found.repeatability.sum().backward()
    expected.repeatability.sum().backward()
    torch.testing.assert_close(network.sal.weight.grad, plain.sal.weight.grad, rtol=1e-4, atol=1e-5)
    assert list(network.state_dict()) == list(plain.state_dict())


def test_too_little_memory_says_what_to_lower():
    sentence = r"8 pairs of 192 x 192 px .* memory of cpu \(.* GiB, .* free; .*\); lower pairs_per_worker"
    with pytest.raises(OutOfMemory, match=sentence), enough_memory(TrainConfig(), CPU):
        torch.empty(2**60)


def test_too_little_memory_of_python_says_it_too():
    with pytest.raises(OutOfMemory, match="8 pairs of 192"), enough_memory(TrainConfig(), CPU):
        raise MemoryError


def test_too_little_memory_of_a_gpu_says_it_too():
    gpu = torch.device("cuda:0")
    with pytest.raises(OutOfMemory, match="memory of cuda:0"), enough_memory(TrainConfig(), gpu):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="shapes"), enough_memory(TrainConfig(), CPU):
        raise RuntimeError("shapes do not fit")
